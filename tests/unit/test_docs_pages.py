"""Links, pictures, the navigation and the reference of the documentation are complete."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "airflow_provider_omnimessage"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]
FOR_USERS = {
    "alerts.deadman",
    "alerts.heartbeat",
    "alerts.on_call",
    "alerts.steps",
    "api.delivery",
    "api.errors",
    "api.messages",
    "api.sms_parts",
    "api.timing",
    "api.windows",
    "hooks.omnimessage",
    "hooks.settings",
    "links",
    "notifications.omnimessage",
    "operators.bulk",
    "operators.omnimessage",
    "sandbox.client",
    "sandbox.pytest_plugin",
    "sandbox.server",
    "sensors.omnimessage",
    "triggers.events",
    "triggers.omnimessage",
}
"""Modules with names that users import or see. The docstrings of all others are for contributors."""
SELF_EXPLANATORY = {"self", "cls", "context", "value"}
"""Parameters that need no documentation."""
AIRFLOWS_OWN = {"execute", "poke", "render_template", "render_template_fields"}
"""Methods that Airflow calls and documents."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tokens_of(page: Path) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def anchors_of(page: Path) -> set[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text())
    titles = [
        "".join(child.content for child in heading.children or ())
        for opening, heading in pairwise(tokens)
        if opening.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def targets_of(page: Path) -> Iterator[str]:
    for token in tokens_of(page):
        target = token.attrGet("href") or token.attrGet("src")
        if target:
            yield unquote(str(target))
        if token.type in ("html_block", "html_inline"):
            yield from re.findall(r'(?:href|src|srcset)="([^"]+)"', token.content)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_has_an_existing_target(page):
    dead = []
    for target in targets_of(page):
        if re.match(r"(https?|mailto):", target):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors_of(file)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_picture_has_an_alternative_text(page):
    pictures = [token for token in tokens_of(page) if token.type == "image"]
    assert [picture.attrGet("src") for picture in pictures if len(picture.content) < 8] == []


def test_every_picture_is_used():
    used = {Path(target).name for page in PAGES for target in targets_of(page)}
    assert {picture.name for picture in (DOCS / "images").iterdir()} - used == set()


def test_every_page_is_in_the_navigation():
    listed = set()
    for page in (DOCS / "index.md", DOCS / "reference" / "index.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL):
            names = [line for line in tree.splitlines() if line and not line.startswith(":")]
            places = [re.sub(r".+ <(.+)>", r"\1", name) for name in names]
            listed |= {(page.parent / f"{place}.md").resolve() for place in places}
    pages = {page.resolve() for page in DOCS.rglob("*.md") if "_build" not in page.parts} - {DOCS / "index.md"}
    assert pages - listed == set()


def test_the_readme_is_short():
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text).split()
    assert 500 <= len(words) <= 600


def test_the_tutorial_prepares_what_its_commands_need():
    """Followed literally by tests/system/test_tutorial.py, which takes a minute."""
    commands = [token.content for token in tokens_of(DOCS / "tutorial.md") if token.info.strip() == "bash"]
    text = "".join(commands)
    steps = ["pip install '.[sandbox]'", "airflow_provider_omnimessage.sandbox\n", "export AIRFLOW_CONN_"]
    steps += ["airflow db migrate", "cp example_dags/", "airflow dags test"]
    places = [text.index(step) for step in steps]
    assert places == sorted(places)


HOW_TO = sorted(page for page in (DOCS / "howto").glob("*.md") if "{literalinclude}" in page.read_text())


@pytest.mark.parametrize("page", HOW_TO, ids=name_of)
def test_a_how_to_page_shows_the_lines_that_matter_before_the_whole_dag(page):
    text = page.read_text()
    begin = re.match(r"# [A-Z].+\n\n(?:[^\n]+\n)+\n```python\n((?:.*\n)+?)```\n", text)
    assert begin, "a title, a short paragraph, then the lines that matter"
    assert len(begin[1].splitlines()) <= 10
    assert begin.end() < text.index("{literalinclude}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_included_code_is_also_linked_for_readers_on_github(page):
    text = page.read_text()
    included = re.findall(r"^```\{literalinclude\} (\S+)$", text, re.MULTILINE)
    linked = re.findall(r"\[`(\S+)`\]\((\S+)\)[^`]*\n\n```\{literalinclude\} (\S+)$", text, re.MULTILINE)
    assert [place for _, place, _ in linked] == included
    for name, place, code in linked:
        assert place == code
        assert (page.parent / place).resolve() == ROOT / name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_whole_dag_is_included_with_all_of_its_imports(page):
    found = re.findall(r"^```\{literalinclude\} (\S+)\n(?:.+\n)*?:start-at: (.+)$", page.read_text(), re.MULTILINE)
    for code, start in found:
        if start.startswith(("import ", "from ")):
            imports = re.findall(r"^(?:import|from) .+$", (page.parent / code).read_text(), re.MULTILINE)
            imports.remove("from __future__ import annotations")
            assert imports[0].startswith(start)


@cache
def public_modules() -> dict[str, ast.Module]:
    return {name: ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text()) for name in FOR_USERS}


def test_every_module_for_users_is_in_the_reference():
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = re.findall(r"automodule:: airflow_provider_omnimessage\.(\S+)\n   :members:", text)
    assert sorted(documented) == sorted(FOR_USERS)


Callable_ = ast.FunctionDef | ast.AsyncFunctionDef


def is_public(node: ast.AST) -> bool:
    return not getattr(node, "name", "_").startswith("_")


def functions_of(module: ast.Module) -> Iterator[tuple[str, Callable_, str]]:
    """Yield each function that users call, with its name and the docstring that documents its parameters."""
    for node in filter(is_public, module.body):
        if isinstance(node, Callable_):
            if "fixture" not in " ".join(map(ast.unparse, node.decorator_list)):
                yield node.name, node, ast.get_docstring(node) or ""
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, Callable_) and member.name == "__init__":
                    yield node.name, member, ast.get_docstring(node) or ""
                elif isinstance(member, Callable_) and is_public(member) and member.name not in AIRFLOWS_OWN:
                    yield f"{node.name}.{member.name}", member, ast.get_docstring(member) or ""


def parameters_of(function: Callable_) -> dict[str, ast.expr | None]:
    """Return the documented parameters, each with its default."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    padded = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults]
    pairs = [*zip(positional, padded, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return {
        one.arg: default for one, default in pairs if one.arg not in SELF_EXPLANATORY and not one.arg.startswith("_")
    }


def documentation_of(name: str, docstring: str) -> str | None:
    found = re.search(rf":param {name}:(.*?)(?=\n\s*:\w|\Z)", docstring, re.DOTALL)
    return found and found[1]


@pytest.mark.parametrize("module", sorted(public_modules()))
def test_every_public_name_of_a_module_has_a_docstring(module):
    """A parameter that its name and type explain needs no words of its own."""
    assert [name for name, _, docstring in functions_of(public_modules()[module]) if not docstring] == []


@pytest.mark.parametrize("module", sorted(public_modules()))
def test_each_documented_parameter_exists(module):
    unknown = [
        f"{name}({one})"
        for name, function, docstring in functions_of(public_modules()[module])
        for one in re.findall(r":param (\w+):", docstring)
        # operators pass the rest on to their base class
        if function.args.kwarg is None
        if one not in {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    ]
    assert unknown == []


@pytest.mark.parametrize("module", sorted(public_modules()))
def test_the_meaning_of_a_default_of_none_is_documented(module):
    """Other defaults are in the signature."""
    words = re.compile("default|None|left out|instead of|either|only one|if only", re.IGNORECASE)
    unclear = [
        f"{name}({one})"
        for name, function, docstring in functions_of(public_modules()[module])
        for one, default in parameters_of(function).items()
        if isinstance(default, ast.Constant) and default.value is None
        if not words.search(documentation_of(one, docstring) or "")
        if not re.search("Arguments that are ``None`` are left out|Parameters: as of", docstring)
    ]
    assert unclear == []
