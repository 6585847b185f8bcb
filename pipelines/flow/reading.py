"""A flow's YAML file, checked as a whole: every wrong key and value by its line."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from curate.config import AUTO, DedupConfig
from curate.encoders.base import nearest
from curate.errors import CurateError
from pipelines.changes import parse_change
from pipelines.flow.checks import Place, found_late, near
from pipelines.flow.config import DedupEntry, FlowConfig
from pipelines.flow.steps import first_threshold

SHIPPED = Path(__file__).parent.parent / "flows"
_LARGEST = 1 << 20
_MOST_VALUES = 100_000
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_STATED = {"test", "train", "out", "workers", "scheduler", "test_name", "train_name"}
"""Settings of `curate dedup` that a flow states elsewhere."""


def shipped_flows() -> list[str]:
    """Names of the flows that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find_flow(name: str) -> Path:
    """The file of a flow: a path, or the name of a shipped one.

    Raises:
        CurateError: there is none.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = SHIPPED / f"{name}.yaml"
    if not path.is_file():
        known = shipped_flows()
        raise CurateError(
            f"{name}: no such flow; give a .yaml file, or one of {', '.join(known)}"
            f"{nearest(name, known)}"
        )
    return path


def read_flow(path: Path, changes: Sequence[str] = ()) -> FlowConfig:
    """Read a flow.

    Args:
        path: its file.
        changes: settings that are other, "a.b=value" each, values as in YAML.

    Raises:
        CurateError: names every wrong key with its line and the nearest valid one.
    """
    values, lines = _parsed(path)
    for change in changes:
        _put(values, change)
    if _count(values, {}) > _MOST_VALUES:
        raise CurateError(f"{path}: aliases (*NAME) repeat values without end, or too many.")
    values = _filled_in(values, path)
    problems: list[str] = []
    try:
        flow = FlowConfig.model_validate(values)
    except ValidationError as error:
        problems = [_explained(problem, FlowConfig, lines) for problem in error.errors()]
        raise CurateError(_told(path, problems)) from error
    for name, entry in flow.dedup.items():
        problems += _wrong_in(name, entry, lines)
    problems += _unknown_names(flow, lines)
    problems += [f"{_line_of(place, lines)}{text}" for place, text in found_late(flow)]
    if problems:
        raise CurateError(_told(path, problems))
    return flow


def _told(path: Path, problems: Sequence[str]) -> str:
    unique = list(dict.fromkeys(problems))
    return f"{path}: " + ("; ".join(unique) if len(unique) == 1 else "\n  " + "\n  ".join(unique))


# --- YAML with lines ------------------------------------------------------------------------------


def _parsed(path: Path) -> tuple[dict[str, Any], dict[Place, int]]:
    """The values of a file, and the line of each place in them."""
    try:
        if path.stat().st_size > _LARGEST:
            raise CurateError(f"{path}: larger than {_LARGEST} bytes; no flow is.")
        text = path.read_text("utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CurateError(f"{path}: not readable as YAML ({error}).") from error
    if not isinstance(values, dict) or root is None:
        raise CurateError(f"{path}: a mapping of settings to values was expected.")
    lines: dict[Place, int] = {}
    twice: list[str] = []
    _note_lines(root, (), lines, set(), twice)
    if twice:
        raise CurateError(_told(path, twice))
    return values, lines


def _note_lines(
    node: yaml.Node, place: Place, lines: dict[Place, int], seen: set[int], twice: list[str]
) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if id(node) in seen:  # an alias; its values were noted where they stand
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(getattr(key, "value", "")))
            if inner in lines:
                name, line = ".".join(map(str, inner)), key.start_mark.line + 1
                twice.append(f"line {line}: {name} was given before, in line {lines[inner]}")
            lines[inner] = key.start_mark.line + 1
            _note_lines(value, inner, lines, seen, twice)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _note_lines(value, (*place, number), lines, seen, twice)


def _count(value: Any, known: dict[int, int]) -> int:
    """Values in a value; those behind aliases as often as they are named.

    Args:
        value: as YAML has it.
        known: counts of values by identity; one that holds itself has more than is allowed.
    """
    if not isinstance(value, dict | list | tuple):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_VALUES
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(one, known) for one in inner)
    return known[id(value)]


def _put(values: dict[str, Any], change: str) -> None:
    """Change a value in place; mappings on its way that are not there are made."""
    key, value = parse_change(change, "eval.main.limit=100")
    *parents, last = key.split(".")
    for part in parents:
        inner = values.get(part)
        values[part] = inner = dict(inner) if isinstance(inner, dict) else {}
        values = inner
    values[last] = value


def _filled_in(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """The values with `${NAME}` replaced by what `variables` says."""
    given = values.get("variables") or {}
    if not isinstance(given, dict):
        return values
    known = {str(name): str(value) for name, value in given.items()}

    def word(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise CurateError(
                f"{path}: ${{{match[1]}}} is not among variables{nearest(match[1], list(known))}"
            )
        return known[match[1]]

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(word, value)
        if isinstance(value, Mapping):
            return {name: fill(inner) for name, inner in value.items()}
        return [fill(inner) for inner in value] if isinstance(value, list) else value

    return {name: value if name == "variables" else fill(value) for name, value in values.items()}


# --- what is wrong --------------------------------------------------------------------------------


def _explained(problem: Any, root: type[BaseModel], lines: Mapping[Place, int]) -> str:
    place: Place = tuple(problem["loc"])
    while place and place not in lines and _is_branch(place[-1]):
        place = place[:-1]
    key = ".".join(map(str, place))
    where = _line_of(place, lines)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(root, place[:-1])
        return f"{where}{key} is no setting{near(str(place[-1]), known)}"
    if problem["type"] == "missing":
        return f"{where}{key} is missing"
    text = str(problem["msg"]).removeprefix("Value error, ")
    given = problem["input"]
    shown = f" (given: {given!r:.60})" if isinstance(given, str | int | float) else ""
    return f"{where}{key}: {text}{shown}" if key else f"{where}{text}"


def _is_branch(part: str | int) -> bool:
    """Whether a part of a place is pydantic's word for a choice, and no key."""
    return isinstance(part, str) and ("[" in part or part in ("float", "int", "str", "constrained"))


def _line_of(place: Place, lines: Mapping[Place, int]) -> str:
    """In words, the line of a place or of what it would stand in."""
    for end in range(len(place), 0, -1):
        *parents, last = place[:end]
        for key in (place[:end], (*parents, str(last).replace("_", "-"))):
            if key in lines:
                return f"line {lines[key]}: "
    return ""


def _fields_at(root: type[BaseModel], place: Place) -> list[str]:
    """The settings that there are in the mapping at a place."""
    kind: Any = root
    for part in place:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = None if field is None else field.annotation
        else:
            kind = _inner(kind)
    kind = _model_in(kind)
    return [] if kind is None else list(kind.model_fields)


def _inner(kind: Any) -> Any:
    """The values of a mapping type."""
    return get_args(kind)[-1] if get_args(kind) else None


def _model_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for arg in get_args(kind) if (found := _model_in(arg))), None)


def _wrong_in(name: str, entry: DedupEntry, lines: Mapping[Place, int]) -> list[str]:
    """What `curate dedup` would refuse of the settings of an entry."""
    found = []
    for key in sorted(set(entry.others) & _STATED):
        place = ("dedup", name, key)
        found.append(f"{_line_of(place, lines)}{'.'.join(place)}: a flow states this elsewhere")
    known = [field for field in DedupConfig.model_fields if field not in _STATED]
    others = {key: value for key, value in entry.others.items() if key not in _STATED}
    for _, train, detector in entry.pairs():
        sides: dict[str, Any] = {"within": True} if train is None else {"train": (train,)}
        chosen: dict[str, Any] = {} if detector is None else {"detector": detector}
        chosen["threshold"] = first_threshold(entry)
        try:
            config = DedupConfig(**{**others, **sides, **chosen, "test": entry.test, "out": Path()})
            found += _undecidable(name, entry, config, lines)
        except ValidationError as error:
            found += [_wrong_setting(name, problem, known, lines) for problem in error.errors()]
        except CurateError as error:  # no such detector
            found.append(f"{_line_of(('dedup', name, 'detector'), lines)}dedup.{name}: {error}")
    return found


def _undecidable(
    name: str, entry: DedupEntry, config: DedupConfig, lines: Mapping[Place, int]
) -> list[str]:
    """Further thresholds that lie below all that is stored for the first."""
    if config.by_pixels or config.threshold == AUTO or config.threshold_for:
        return []  # what is stored then is known when it is searched
    floor, place = config.chosen_floor, ("dedup", name, "threshold")
    return [
        f"{_line_of(place, lines)}{'.'.join(place)}: {one:g} is below {floor:g}, down to which "
        f"pairs are stored; give floor: {one:g} too"
        for one in entry.threshold
        if isinstance(one, float) and one < floor
    ]


def _wrong_setting(
    name: str, problem: Any, known: Sequence[str], lines: Mapping[Place, int]
) -> str:
    place = ("dedup", name, *problem["loc"])
    if problem["type"] != "extra_forbidden":
        return _explained({**problem, "loc": place}, FlowConfig, lines)
    meant = near(str(problem["loc"][0]), [*known, *DedupEntry.model_fields])
    return f"{_line_of(place, lines)}{'.'.join(map(str, place))} is no setting{meant}"


def _unknown_names(flow: FlowConfig, lines: Mapping[Place, int]) -> list[str]:
    """Sets and entries that are named and are not there."""
    asked: list[tuple[Place, str, Sequence[str], str]] = []
    sets, splits = list(flow.sets), list(flow.dedup)
    for name, entry in flow.dedup.items():
        asked += [(("dedup", name, "test"), one, sets, "set") for one in entry.test]
        asked += [(("dedup", name, "train"), one, sets, "set") for one in entry.train]
    for name, trained in flow.train.items():
        if trained.data is not None:
            asked.append((("train", name, "data"), trained.data, sets, "set"))
        for key in ("split", "ids"):
            if (given := getattr(trained, key)) is not None:
                asked.append((("train", name, key), given.partition("@")[0], splits, "dedup entry"))
    for name, measured in flow.eval.items():
        place: Place = ("eval", name)
        asked += [((*place, "data", key), one, sets, "set") for key, one in measured.data.items()]
        asked += [
            ((*place, "splits", key), one.partition("@")[0], splits, "dedup entry")
            for key, one in measured.splits.items()
        ]
    return [
        f"{_line_of(place, lines)}{'.'.join(map(str, place))}: there is no {what} {word!r}"
        f"{near(word, known) or (', only ' + ', '.join(known) if known else '')}"
        for place, word, known, what in asked
        if word not in known
    ]
