"""Every command that the documentation shows can be typed, and what it names is there."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown import ROOT, blocks, commands, documents, prose

from pipelines.cli import app

TREE: Any = typer.main.get_command(app)
LINES = [
    pytest.param(line, id=f"{path.name}: {line[:60]}")
    for path in documents()
    for block in blocks(path.read_text("utf-8"))
    for line in commands(block)
]
SPANS = sorted(
    {
        span
        for path in documents()
        for span in re.findall(r"`(curate [a-z][^`]*)`", prose(path.read_text("utf-8")))
    }
)


def found(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words after them."""
    command = TREE
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options_of(command: Any) -> set[str]:
    every = {
        name
        for param in command.params
        for name in (*param.opts, *param.secondary_opts)
        if name.startswith("-")
    }
    return every | {"--help", "--version"}


def words_of(line: str) -> list[str]:
    """The words of a line, without a comment and without what a shell would do with them."""
    return [word for word in shlex.split(line, comments=True) if word not in {"&", "..."}]


def check_python(words: list[str]) -> None:
    """A script or module that is there, with options that its text names."""
    words = [word for word in words if not word.startswith("HYPOTHESIS")]
    if words[0] == "-m":
        name, options = words[1], words[2:]
        if name in {"pip", "pytest", "venv", "http.server", "ruff", "mypy"}:
            return
        if name == "pipelines":
            check_curate(options)
            return
        path = ROOT / Path(*name.split("."))
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert file.is_file(), name
        text = "".join(one.read_text("utf-8") for one in file.parent.glob("*.py"))
    else:
        file, options = ROOT / words[0], words[1:]
        assert file.is_file(), words[0]
        text = "".join(one.read_text("utf-8") for one in file.parent.rglob("*.py"))
    for word in options:
        if word.startswith("--"):
            plain = word.partition("=")[0]
            assert plain in text or plain[2:].replace("-", "_") in text, f"{file}: {word}"


def check_curate(words: list[str]) -> None:
    """Options and arguments are those of the command, and none that is needed is lacking."""
    command, rest = found(words)
    if rest == ["--help"]:
        return
    assert not hasattr(command, "commands"), f"no such command: {' '.join(words)}"
    try:
        command.make_context(command.name, rest)
    except SystemExit:
        return
    except Exception as error:  # noqa: BLE001 - click's errors differ by version of typer
        pytest.fail(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("line", LINES)
def test_a_command_parses(line: str) -> None:
    words = words_of(line)
    if words[0] == "curate":
        check_curate(words[1:])
    elif words[0] == "python":
        check_python(words[1:])
    elif words[0] == "torchrun":
        place = words.index("-m")
        assert words[place + 1] == "pipelines"
        assert found(words[place + 2 :])[0] is not TREE
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for named in re.findall(r"\[([\w,-]+)\]", line):
            assert set(named.split(",")) <= set(extras["optional-dependencies"]), line
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), line


@pytest.mark.parametrize("span", SPANS)
def test_a_command_in_a_sentence_has_a_name_and_options_that_are_there(span: str) -> None:
    words = [word for word in re.split(r"[\s|]+", span)[1:] if word]
    command, rest = found(words)
    if not words[0].isupper():
        assert command is not TREE or words[0].startswith("-"), span
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in options_of(command), span


@pytest.mark.parametrize(
    "line",
    [
        "curate dedupe --test T", "curate dedup --tests T", "curate split", "curate eval ran x",
        "python benchmarks/nothing.py", "python benchmarks/join.py --no-such-option",
        "pip install '.[none]'", "make tea", "python -m train.nothing",
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_typed_is_found(line: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_a_command_parses(line)


def test_there_are_many_commands_to_look_at() -> None:
    assert len(LINES) > 80
    assert len(SPANS) > 30
