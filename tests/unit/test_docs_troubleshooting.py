"""docs/troubleshooting.md explains every error that the package raises, and every warning that it logs."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from airflow_provider_omnimessage.api import errors

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "airflow_provider_omnimessage"
GAP = "…"
RAISED = re.compile(r"(Error|Exception)$")
NAMED = {"reject", "_invalid", "Problem", "WaitResult", "_end", "_news", "cls"}
LOGGED = {"warning", "error", "exception"}
SHOWN = {"CancelResult"}
"""Enumerations whose values users see."""
NOT_FOR_USERS = {
    "unreachable: the second attempt returns or raises": "a line that cannot be reached",
    "not a mapping": "caught where it is raised: a Variable holds something else",
    "not the state of events": "caught where it is raised: the Variable of a notifier is damaged",
    "not a list": "caught where it is raised: the Variable of a notifier is damaged, or XComs hold something else",
    "a time without an offset": "caught where it is raised: the heartbeat's Variable holds something else",
    "unreachable: a week holds each day": "a line that cannot be reached",
}
EXAMPLES = {
    "+44 (0) 20 …",
    "+44 20 …",
    "connection 'omnimessage_default', extra.timezone: …",
    "Not delivered: …",
    "AIRFLOW_CONN_…",
    "Executor … reported that the task instance … finished with state success, but the task instance's state attribute "
    "is running",
}
"""Quotes on the page that are not texts of this package."""


def shapes(node: ast.AST, constants: dict[str, str]) -> list[str]:
    """Return the texts of an expression, with a gap for each part that is known only at run time."""
    if isinstance(node, ast.Constant):
        return [re.sub(r"%(\.\d+)?[sdfr]", GAP, node.value)] if isinstance(node.value, str) else [GAP]
    if isinstance(node, ast.Name):
        return [constants.get(node.id, GAP)]
    if isinstance(node, ast.JoinedStr):
        known = [part.value if isinstance(part, ast.Constant) else GAP for part in node.values]
        return ["".join(map(str, known))]
    if isinstance(node, ast.IfExp):
        return shapes(node.body, constants) + shapes(node.orelse, constants)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [f"{left}{right}" for left in shapes(node.left, constants) for right in shapes(node.right, constants)]
    return [GAP]


def texts_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the text of everything that a module raises, rejects, or logs as a warning or error, with its line."""
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        expressions: list[ast.AST] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if RAISED.search(name) or name in NAMED or (name == "of" and RAISED.search(owner)):
                # the first argument is the name of a field
                expressions = node.args if name == "cls" or RAISED.search(name) else node.args[1:]
            elif (name in LOGGED and owner.endswith("log")) or name == "task_failures" or owner == "too_late":
                expressions = node.args
            expressions += [keyword.value for keyword in node.keywords if keyword.arg in ("warning", "reason")]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("what", "reason", "too_late"):
            expressions = [node.value]
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            expressions = node.value.elts
        elif isinstance(node, ast.ClassDef) and node.name in SHOWN:
            expressions = [member.value for member in node.body if isinstance(member, ast.Assign)]
        for expression in expressions:
            for shape in shapes(expression, constants):
                yield node.lineno, shape


def all_texts() -> list[tuple[str, str]]:
    return [
        (f"{path.relative_to(PACKAGE)}:{line}", shape)
        for path in sorted(PACKAGE.rglob("*.py"))
        # not the sandbox, not doctor, whose findings include the remedy, and not the receiver, whose
        # responses are for programs
        if "sandbox" not in path.relative_to(PACKAGE).parts and path.name not in ("doctor.py", "push.py")
        if path.relative_to(PACKAGE).parts not in (("receiver", "app.py"), ("receiver", "events.py"))
        for line, shape in texts_of(ast.parse(path.read_text()))
    ]


def longest_words(shape: str) -> str:
    return max((" ".join(part.split()).strip(" :;,.()'") for part in shape.split(GAP)), key=len)


def codes() -> list[str]:
    """Return the texts in backquotes on the page."""
    tokens = MarkdownIt("commonmark").enable("table").parse((ROOT / "docs" / "troubleshooting.md").read_text())
    children = [child for token in tokens for child in token.children or ()]
    return [" ".join(child.content.split()) for child in children if child.type == "code_inline"]


@pytest.fixture(scope="module")
def page() -> str:
    return "\n".join(codes())


def test_each_error_and_each_warning_has_its_entry(page):
    wanted = {(words, place) for place, shape in all_texts() if len(words := longest_words(shape)) >= 8}
    assert len(wanted) > 100
    missing = sorted(f"{place}: {words}" for words, place in wanted if words not in page and words not in NOT_FOR_USERS)
    assert missing == [], "Add an entry in backquotes to docs/troubleshooting.md for each of these"


def test_each_entry_is_about_a_text_that_still_exists():
    strings = [
        " ".join(shape.split())
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant | ast.JoinedStr)
        for shape in shapes(node, {})
    ]
    current_texts = "\n".join(strings)
    entries = {entry: longest_words(entry) for entry in codes() if GAP in entry and entry not in EXAMPLES}
    assert len(entries) > 100
    assert [entry for entry, words in entries.items() if words not in current_texts] == []


def test_every_class_of_errors_is_explained(page):
    classes = {
        name
        for name, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, errors.OmnimessageError)
    }
    assert classes - set(re.findall(r"\w+", page)) == set()


def test_no_entry_is_there_twice():
    """A merge of two branches can leave both versions of an entry."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        entries = re.findall(r"^(?:### (.+)|\| (`.+?`) \|.*|(- .+))$", section, re.MULTILINE)
        known = [heading or row or item for heading, row, item in entries]
        assert [entry for entry in set(known) if known.count(entry) > 1] == []
    assert re.findall(r"^(\|.+)\n#", text, re.MULTILINE) == [], "a table ends with an empty line"
