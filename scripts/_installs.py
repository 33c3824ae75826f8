"""Checks that every ``pip install`` line in README, docs and error messages can be installed today."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from packaging.requirements import InvalidRequirement, Requirement

ROOT = Path(__file__).resolve().parent.parent
NAME = "airflow-provider-omnimessage"
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
#: Set this to True in the commit that follows the first upload to PyPI.
PUBLISHED = False
#: Other packages that the documentation names; all are on PyPI. Add one here after you have installed it.
ON_PYPI = {"apache-airflow-providers-fab", "fastapi", "uvicorn", "pre-commit", "pytest", "wtforms"}
CHECKOUT = "."


def lines() -> Iterator[tuple[str, str]]:
    """Find what follows each ``pip install``, with its file and line."""
    pages = [*ROOT.glob("*.md"), *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
    for path in sorted(
        [*pages, *(ROOT / NAME.replace("-", "_")).rglob("*.py"), *(ROOT / "example_dags").rglob("*.py")]
    ):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for found in re.finditer(r"pip install ([^`\n]+?)(?=`|\"|&&|  #|[,;] |$)", line):
                yield f"{path.relative_to(ROOT)}:{number}", re.split(r"\s#\s", found[1])[0]


def problem(target: str) -> str | None:
    """
    Return why a target cannot be installed, or None.

    :param target: one argument of ``pip install``.
    """
    place, extras = re.fullmatch(r"(.*?)(?:\[([\w,-]+)\])?", target).groups()  # type: ignore[union-attr]
    if place == CHECKOUT:
        unknown = set((extras or "").split(",")) - EXTRAS - {""}
        return f"has no extra called {sorted(unknown)}" if unknown else None
    try:
        wanted = Requirement(target)
    except InvalidRequirement:
        return "is neither a requirement nor a path of a checkout"
    name = wanted.name.lower().replace("_", "-")
    if name == NAME:
        return None if PUBLISHED else "is not on PyPI yet; install it from a checkout: pip install '.[sandbox]'"
    return None if name in ON_PYPI else "is not in ON_PYPI of scripts/_installs.py; check that it exists and add it"


def problems() -> list[str]:
    """Return what is wrong with the lines, each with its place."""
    return [
        f"{place}: pip install {target}: {why}"
        for place, text in lines()
        for target in shlex.split(text)
        if not target.startswith("-") and (why := problem(target))
    ]


def main() -> None:
    """Print every line that cannot be installed, and exit with 1 if there is one."""
    found, wrong = list(lines()), problems()
    if wrong or not found:
        sys.exit("\n".join(wrong) or "No 'pip install' line was found")
    print(f"{len(found)} 'pip install' lines, all of which can be installed today")


if __name__ == "__main__":
    main()
