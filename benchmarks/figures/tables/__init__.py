"""One function for every table: from the results to markdown.

A function's name with dashes is the name of its block.
"""

from collections.abc import Callable

from benchmarks.figures.results import Results
from benchmarks.figures.tables import (
    attacking,
    copies,
    embedding,
    evaluation,
    joining,
    judging,
    photographs,
    planning,
    reliability,
    study,
    training,
    units,
)

Renderer = Callable[[Results], str]
_MODULES = (
    attacking,
    copies,
    embedding,
    evaluation,
    joining,
    judging,
    photographs,
    planning,
    reliability,
    study,
    training,
    units,
)
TABLES: dict[str, Renderer] = {
    render.__name__.replace("_", "-"): render for module in _MODULES for render in module.TABLES
}
