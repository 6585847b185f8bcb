"""The reference of all commands, as Markdown, made from the commands themselves.

python -m pipelines.cli.reference > docs/cli.md
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo, ParameterInfo
from typer.utils import get_params_from_function

from pipelines.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typer import Typer
    from typer.models import ParamMeta

_WORDS = {str: "TEXT", Path: "PATH", int: "INTEGER", float: "NUMBER"}
_TOP = """\
# Commands

Made by `python -m pipelines.cli.reference > docs/cli.md`; `curate COMMAND --help` says the same.

Exit codes of all commands: 0 done; 1 a promise does not hold; 2 bad use or input; 3 partial, and
the same command goes on ([file formats](formats.md#exit-codes)). With `--json` a command prints its
result for machines on the standard output; bars and warnings go to the standard error. Paths may be
URLs where the help does not say otherwise ([flows](flows.md#paths-that-are-urls)).
"""


@dataclass(frozen=True)
class Command:
    """A command of the tree.

    Attributes:
        name: as it is typed, `curate eval run`.
        panel: the heading it stands under.
        function: what it calls.
    """

    name: str
    panel: str
    function: Callable[..., Any]


def commands(tree: Typer = app, before: str = "curate", panel: str = "") -> Iterator[Command]:
    """All commands in the order of the help, those of a group after the single ones."""
    for one in tree.registered_commands:
        assert one.callback is not None
        name = one.name or one.callback.__name__.replace("_", "-")
        yield Command(f"{before} {name}", panel or _text(one.rich_help_panel), one.callback)
    for group in tree.registered_groups:
        assert group.typer_instance is not None
        assert group.name is not None
        inner = panel or _text(group.rich_help_panel)
        yield from commands(group.typer_instance, f"{before} {group.name}", inner)


def reference() -> str:
    """The whole page."""
    every = list(commands())
    panels = list(dict.fromkeys(one.panel for one in every))
    parts = [_TOP]
    for panel in panels:
        inner = [one for one in every if one.panel == panel]
        parts += [f"## {panel}\n", *map(_section, inner)]
    return "\n".join(parts)


def _section(command: Command) -> str:
    words, examples = _docstring(command.function)
    params = [
        param
        for param in get_params_from_function(command.function).values()
        if isinstance(param.default, ParameterInfo) and not param.default.hidden
    ]
    arguments = [param for param in params if isinstance(param.default, ArgumentInfo)]
    options = [param for param in params if isinstance(param.default, OptionInfo)]
    parts = [f"### {command.name}\n", words, "".join(f"    {line}\n" for line in examples)]
    if arguments:
        parts.append(_table("argument", [(_argument(one), *_told(one)) for one in arguments]))
    if options:
        parts.append(_table("option", [(_option(one), *_told(one)) for one in options]))
    return "\n".join(part for part in parts if part)


def _docstring(function: Callable[..., Any]) -> tuple[str, list[str]]:
    """The paragraphs of a docstring, and its examples, a line for each."""
    text = inspect.cleandoc(function.__doc__ or "")
    words, _, examples = re.sub(r"\nExamples?:\n", "\0", text).partition("\0")
    paragraphs = [" ".join(part.split()) for part in words.split("\n\n")]
    found = []
    for part in textwrap.dedent(examples.strip("\n")).split("\n\n"):
        line = re.sub(r"\s*\n\s*", " ", part.strip())
        found.append(re.sub(r"\s+\(([^)]*)\)$", r"    # \1", line))
    wrapped = [textwrap.fill(one, 140, break_on_hyphens=False) for one in paragraphs if one]
    return "\n\n".join(wrapped) + "\n", [line for line in found if line]


def _table(heading: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"| {heading} | default | meaning |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _argument(param: ParamMeta) -> str:
    return f"`{param.name.upper()}`" + (" ..." if _is_list(param.annotation) else "")


def _option(param: ParamMeta) -> str:
    given = [name for name in param.default.param_decls or () if name.startswith("-")]
    plain = f"--{param.name.replace('_', '-')}"
    kind = _inner(param.annotation)
    if kind is bool:
        return f"`{' '.join(given) or f'{plain}/--no-{plain[2:]}'}`"
    return f"`{' '.join(given) or plain} {_word(kind)}`"


def _word(kind: Any) -> str:
    """What stands for a value: TEXT, or the words that may be chosen."""
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    return _WORDS[kind]


def _told(param: ParamMeta) -> tuple[str, str]:
    """Default and meaning."""
    value, words = param.default.default, param.default.help or ""
    if value is ...:
        return "needed", words
    if value is None or value is False or value is True or value == []:
        return "", words
    return f"`{value}`", words


def _inner(annotation: Any) -> Any:
    """The type of one value: `list[str] | None` is `str`."""
    if get_origin(annotation) in {Union, types.UnionType}:
        (annotation,) = (one for one in get_args(annotation) if one is not types.NoneType)
    return get_args(annotation)[0] if _is_list(annotation) else annotation


def _is_list(annotation: Any) -> bool:
    every = (annotation, *get_args(annotation))
    return any(get_origin(one) is list for one in every)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


if __name__ == "__main__":
    sys.stdout.write(reference())
