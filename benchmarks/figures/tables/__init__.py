"""One function for every table: from the results to markdown.

A function's name with dashes is the name of its block.
"""

from collections.abc import Callable
from importlib import import_module

from benchmarks.figures.results import Results

Renderer = Callable[[Results], str]
_MODULES = (
    "attacking",
    "copies",
    "embedding",
    "evaluation",
    "joining",
    "judging",
    "peers",
    "photographs",
    "planning",
    "reliability",
    "study",
    "study_suite",
    "training",
    "units",
)
TABLES: dict[str, Renderer] = {
    render.__name__.replace("_", "-"): render
    for name in _MODULES
    for render in import_module(f"{__name__}.{name}").TABLES
}
