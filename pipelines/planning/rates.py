"""How fast things are: numbers by name, each with where it comes from.

`rates.json` beside this module holds those that `benchmarks/rates.py` measured, and for GPUs, which
it had none of, published peaks with an assumed utilisation. A plan names every assumed one that it
rests on.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from curate.config import Settings
from curate.encoders.base import nearest
from curate.errors import CurateError
from curate.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Source = Literal["measured", "counted", "published", "assumed", "given"]

_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Rate(Settings):
    """A number that costs are made of.

    Attributes:
        value: in `unit`.
        unit: such as "s/image".
        source: measured, counted (arithmetic), published, assumed, or given by the user.
        of: the machine or publication, and the command, in words.
    """

    value: _Number
    unit: str = ""
    source: Source = "given"
    of: str = ""


class Rates:
    """Rates by name; notes which were asked for.

    Attributes:
        used: names that were asked for since this was made.
    """

    def __init__(self, known: Mapping[str, Rate]) -> None:
        self._known = dict(known)
        self.used: set[str] = set()

    def __call__(self, name: str) -> float:
        """The value of a rate.

        Raises:
            CurateError: it is not known.
        """
        if name not in self._known:
            raise CurateError(
                f"the rate {name} is not known{nearest(name, self._known)}; give it in a file: "
                f'--rates FILE with {{"{name}": {{"value": 0.001}}}}, see docs/scaling.md.'
            )
        self.used.add(name)
        return self._known[name].value

    def first(self, *names: str) -> float:
        """The value of the first of some rates that is known; of the last, if none is.

        Raises:
            CurateError: none is known.
        """
        return self(next((name for name in names if name in self._known), names[-1]))

    @property
    def names(self) -> set[str]:
        """Of all that are known."""
        return set(self._known)

    def has(self, name: str) -> bool:
        """Whether a rate is known."""
        return name in self._known

    def fresh(self) -> Rates:
        """The same, of which nothing was asked yet."""
        return Rates(self._known)

    def changed(self, others: Mapping[str, Rate]) -> Rates:
        """The same with other values for some."""
        return Rates({**self._known, **others})

    def facts(self, names: set[str]) -> dict[str, dict[str, Any]]:
        """Some rates as JSON, sorted by name."""
        return {name: self._known[name].model_dump() for name in sorted(names)}

    def assumed(self, names: set[str]) -> list[str]:
        """Those of some rates that nobody measured or counted."""
        return sorted(n for n in names if self._known[n].source in ("assumed", "published"))


_FILE = TypeAdapter(dict[str, Rate | _Number])


def shipped_rates() -> Rates:
    """Those that come with the package."""
    text = resources.files("pipelines.planning").joinpath("rates.json").read_text("utf-8")
    return Rates(_checked(json.loads(text), "rates.json"))


def read_rates(path: Path) -> dict[str, Rate]:
    """Rates in a JSON file: values by name, or mappings as in the shipped file.

    Raises:
        CurateError: there is none, or it says something else.
    """
    if not path.is_file():
        raise CurateError(f"{path}: there is no such file of rates.")
    return _checked(read_json(path), str(path))


def _checked(values: Any, where: str) -> dict[str, Rate]:
    try:
        found = _FILE.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        raise CurateError(
            f"{where}: {key}: a number of 0 or more was expected, or a mapping with value, unit, "
            "source and of."
        ) from error
    return {
        name: rate if isinstance(rate, Rate) else Rate(value=rate) for name, rate in found.items()
    }
