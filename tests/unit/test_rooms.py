"""The layers of the package: who may import whom, and how long a module and a function may be."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "airflow_provider_omnimessage"
ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / PACKAGE
MODULES = {
    ".".join(("", *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__").removeprefix("."): path
    for path in FOLDER.rglob("*.py")
}

#: The modules at the top level. Every room that knows Airflow may import the last four.
TOP_LEVEL = {"", "__main__", "provider_info", "_compat", "links", "metrics"}
FREE_FOR_ALL = {"provider_info", "_compat", "links", "metrics"}
WITHOUT_AIRFLOW = {"api", "sandbox"}

#: The rooms that each room may import. Order: doors, then alerts and bulk, then tasks, hooks and api.
BELOW = {
    "operators": {"alerts", "bulk", "triggers", "tasks", "hooks", "api"},
    "sensors": {"alerts", "bulk", "receiver", "triggers", "tasks", "hooks", "api"},
    "notifications": {"alerts", "bulk", "triggers", "tasks", "hooks", "api"},
    "alerts": {"tasks", "hooks", "api"},
    "bulk": {"tasks", "hooks", "api"},
    "triggers": {"bulk", "receiver", "tasks", "hooks", "api"},
    "tasks": {"hooks", "api"},
    "receiver": {"hooks", "api"},
    "hooks": {"api"},
    "api": set(),
    "sandbox": set(),
    "cli": {"bulk", "receiver", "sandbox", "hooks", "alerts", "api"},
    "__main__": {"cli"},
    "provider_info": set(),
    "_compat": set(),
    "links": {"hooks", "api"},
    "metrics": {"api"},
    "": set(),
}

#: What is still being moved. This list only gets shorter: an entry that is no longer needed fails its test.
STILL_UPWARDS: set[tuple[str, str]] = set()
STILL_TOO_LONG: set[str] = set()
SAME_IN_EACH_FOLDER = {"__init__.py", "conftest.py"}
MOST_LINES_OF_A_MODULE = 400
MOST_LINES_OF_A_FUNCTION = 60


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports_of(module: str) -> Iterator[str]:
    """Modules of the package that a module imports: anywhere, also within functions and under TYPE_CHECKING."""
    parent = (
        (PACKAGE, *module.split(".")) if MODULES[module].name == "__init__.py" else (PACKAGE, *module.split("."))[:-1]
    )
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join((*parent[: len(parent) - node.level + 1], *filter(None, [node.module])))
                if node.level
                else node.module
            )
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{PACKAGE}."):
            names = [node.value]  # a name that is imported when it is needed
        else:
            continue
        for name in names:
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                yield _module(name.removeprefix(PACKAGE).removeprefix("."))


def _module(name: str) -> str:
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


IMPORTS = {module: set(imports_of(module)) - {module} for module in MODULES}


def test_the_top_level_holds_only_what_airflow_discovers_and_what_stands_alone():
    assert {module for module in MODULES if MODULES[module].parent == FOLDER} - set(BELOW) <= TOP_LEVEL
    modules = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert modules == TOP_LEVEL - {"", "_compat"}


def test_every_room_has_its_place_in_the_order():
    assert {room_of(module) for module in MODULES} <= set(BELOW)


@pytest.mark.parametrize("module", sorted(MODULES), ids=lambda module: module or "__init__")
def test_a_module_imports_only_from_the_rooms_below_its_own(module):
    room = room_of(module)
    upwards = {
        (module, imported)
        for imported in IMPORTS[module]
        if room_of(imported) not in {room, "", *BELOW[room], *(set() if room in WITHOUT_AIRFLOW else FREE_FOR_ALL)}
    }
    known = {arrow for arrow in STILL_UPWARDS if arrow[0] == module}
    assert upwards - known == set(), f"{room or PACKAGE} may import {sorted(BELOW[room])}, and no other room"
    assert known - upwards == set(), "these imports are gone: remove them from STILL_UPWARDS"


def test_no_module_imports_itself_through_others():
    arrows = {(module, imported) for module, imports in IMPORTS.items() for imported in imports - {""}}
    graph: dict[str, set[str]] = {}
    for module, imported in arrows:
        graph.setdefault(module, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_what_airflow_reads_first_imports_nothing():
    assert IMPORTS["provider_info"] == set()


def test_test_modules_have_different_names():
    """Pytest imports them by name alone, and collects nothing at all if two are equal."""
    counts = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name not in SAME_IN_EACH_FOLDER)
    assert [name for name, count in counts.items() if count > 1] == []


FILES = sorted(
    path
    for folder in (PACKAGE, "tests", "scripts", "benchmarks", "example_dags")
    for path in (ROOT / folder).rglob("*.py")
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def too_long(path: Path) -> Iterator[str]:
    text = path.read_text()
    if (lines := len(text.splitlines())) > MOST_LINES_OF_A_MODULE:
        yield f"{name_of(path)}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > MOST_LINES_OF_A_FUNCTION:
                yield f"{name_of(path)}:{node.lineno} {node.name}: {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_and_its_functions_are_short_enough_to_read(path):
    found = list(too_long(path))
    if name_of(path) in STILL_TOO_LONG:
        assert found, "this file is short enough now: remove it from STILL_TOO_LONG"
    else:
        assert found == []
