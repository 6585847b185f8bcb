"""Settings that are changed on the command line: NAME=VALUE, the value as in YAML."""

from typing import Any

import yaml

from curate.errors import CurateError


def parse_change(text: str, example: str) -> tuple[str, Any]:
    """The name and the value of a change, as `--set` gives it.

    Args:
        text: the change.
        example: of one, for the error.

    Raises:
        CurateError: it has no name or no value.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise CurateError(f"--set {text:.200}: NAME=VALUE was expected, such as {example}.")
    try:
        return name, yaml.safe_load(value)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise CurateError(f"--set {text:.200}: {value!r:.200} is no value ({error}).") from error
