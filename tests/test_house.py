"""The rules of the house: imports go down only and in no circles."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = ("indices", "curate", "eval", "train", "pipelines")


def modules() -> dict[str, Path]:
    found = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the house that a file imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if name in known} or {node.module}
            if any(f"{node.module}.{alias.name}" not in known for alias in node.names):
                found.add(node.module)
    return {name for name in found if name in known}


def test_a_module_imports_only_from_floors_below_or_its_own() -> None:
    known = modules()
    assert len(known) > 30
    for name, path in known.items():
        floor = FLOORS.index(name.partition(".")[0])
        for imported in imports(path, known):
            below = FLOORS.index(imported.partition(".")[0])
            assert below <= floor, f"{name} imports {imported}, which stands above it"


def test_no_imports_go_in_circles() -> None:
    known = modules()
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for imported in graph[name]:
                visit(imported, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_arrays_know_nothing_of_images() -> None:
    for path in (ROOT / "indices").rglob("*.py"):
        words = {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.alias)
        }
        assert not any(
            word.startswith(("PIL", "curate", "open_clip", "webdataset", "polars"))
            for word in words
        )


def test_nothing_prints_outside_of_the_command_line() -> None:
    for name, path in modules().items():
        if name.startswith("pipelines.cli"):
            continue
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], name


def test_every_folder_of_source_says_what_it_is() -> None:
    for name, path in modules().items():
        assert ast.get_docstring(ast.parse(path.read_text())), f"{name} has no docstring"
