"""Errors that a person is meant to read: they name the file, the key and the remedy."""


class CurateError(Exception):
    """Bad input or bad use; exit code 2. The command line prints it without a traceback."""

    exit_code = 2


class GateError(CurateError):
    """A promise does not hold, such as the conservation law or a recall gate; exit code 1."""

    exit_code = 1


class PartialRunError(CurateError):
    """Some units failed; what is done is kept, and the same command goes on; exit code 3."""

    exit_code = 3
