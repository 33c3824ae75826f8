"""Every sentence of a page that makes promises is backed by a test, or is known to promise nothing."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent
TABLES = ROOT / "tests" / "promises"
#: The pages that promise something about sends, waits and bulk sends.
PAGES = {"docs/waiting.md", "docs/guarantees.md", "docs/bulk.md"}
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'*\[])")


def sentences(markdown: str) -> list[str]:
    """Return the sentences of the paragraphs and list items, and the rows of the tables, without headings and code."""
    return [sentence for block in _blocks(markdown) for sentence in _END_OF_SENTENCE.split(block) if sentence]


def _blocks(markdown: str) -> Iterator[str]:
    cells: list[str] = []
    kind = ""
    in_head = False
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type in ("heading_open", "paragraph_open", "tr_open"):
            kind, cells = token.type, []
        elif token.type in ("thead_open", "thead_close"):
            in_head = token.type == "thead_open"
        elif token.type == "inline" and kind == "paragraph_open":
            yield " ".join(token.content.split())
        elif token.type == "inline" and kind == "tr_open":
            cells.append(" ".join(token.content.split()))
        elif token.type == "tr_close" and not in_head:
            # the full stop keeps a row in one piece, whatever its cells say
            yield " | ".join(cell.replace(". ", "; ") for cell in cells)


def ids_of_tests(path: Path) -> set[str]:
    """Return the ids of the tests in a file, without parameters."""
    name = path.relative_to(ROOT).as_posix()
    found = set()
    for node in ast.parse(path.read_text()).body:
        members = [(node.name, member) for member in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        for owner, member in members:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and member.name.startswith("test_"):
                found.add("::".join(filter(None, (name, owner, member.name))))
    return found


def problems(page: str, table: dict[str, Any], known_tests: set[str]) -> list[str]:
    """Compare a page with its table, in both directions."""
    present = sentences(page)
    explained = table.get("explanations", [])
    promised = [sentence for promise in table.get("promise", []) for sentence in promise["sentences"]]
    listed = [*explained, *promised]
    return [
        *(f"on the page, but not in the table: {sentence}" for sentence in present if sentence not in listed),
        *(f"in the table, but not on the page: {sentence}" for sentence in listed if sentence not in present),
        *(f"both promise and explanation: {sentence}" for sentence in promised if sentence in explained),
        *(
            f"no such test: {test}"
            for promise in table.get("promise", [])
            for test in promise["tests"]
            if test not in known_tests
        ),
        *(
            f"no test: {sentence}"
            for promise in table.get("promise", [])
            for sentence in promise["sentences"]
            if not promise["tests"]
        ),
    ]


def all_tests() -> set[str]:
    return {test for path in (ROOT / "tests").rglob("test_*.py") for test in ids_of_tests(path)}


def test_each_page_and_its_table_agree():
    known = all_tests()
    assert {tomllib.loads(path.read_text())["page"] for path in TABLES.glob("*.toml")} >= PAGES
    for path in sorted(TABLES.glob("*.toml")):
        table = tomllib.loads(path.read_text())
        found = problems((ROOT / table["page"]).read_text(), table, known)
        assert found == [], f"{path.name}:\n" + "\n".join(found)


PAGE = """# Title

It never sends twice. It *may*
fail. See `x.y`.

| when | then |
|---|---|
| a crash | it returns. The same |

- One item.
"""
TABLE = {
    "explanations": ["See `x.y`."],
    "promise": [
        {"sentences": ["It never sends twice.", "It *may* fail."], "tests": ["tests/a.py::test_a"]},
        {"sentences": ["a crash | it returns; The same", "One item."], "tests": ["tests/a.py::TestB::test_b"]},
    ],
}


class TestTheCheck:
    KNOWN = frozenset({"tests/a.py::test_a", "tests/a.py::TestB::test_b"})

    def test_a_whole_table_has_no_problems(self):
        assert problems(PAGE, TABLE, set(self.KNOWN)) == []

    @pytest.mark.parametrize(
        ("page", "table", "known", "problem"),
        [
            (f"{PAGE}\nIt is fast.\n", TABLE, KNOWN, "on the page, but not in the table: It is fast."),
            (PAGE.replace("twice", "thrice"), TABLE, KNOWN, "in the table, but not on the page: It never sends twice."),
            (PAGE, TABLE, {"tests/a.py::test_a"}, "no such test: tests/a.py::TestB::test_b"),
            (PAGE, {**TABLE, "explanations": ["See `x.y`.", "One item."]}, KNOWN, "both promise and expl"),
            (PAGE, {**TABLE, "promise": [{"sentences": ["One item."], "tests": []}]}, KNOWN, "no test: One item."),
        ],
    )
    def test_a_difference_is_found(self, page, table, known, problem):
        assert any(found.startswith(problem) for found in problems(page, table, set(known)))


def main(page: str) -> None:
    """Print the sentences of a page that no table lists, as TOML."""
    listed: list[str] = []
    for path in TABLES.glob("*.toml"):
        table = tomllib.loads(path.read_text())
        listed += table.get("explanations", [])
        listed += [sentence for promise in table.get("promise", []) for sentence in promise["sentences"]]
    for sentence in sentences((ROOT / page).read_text()):
        if sentence not in listed:
            sys.stdout.write(f"    '''{sentence}''',\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
