"""Runs the benchmarks that are named, or all, and writes their sections of docs/benchmarks.md."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from figure import Figure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

ALL = ("imports", "sends", "pacing", "polling", "receiver", "bulk", "windows", "whole_airflow", "many_waits")

PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Each figure is next to that of a peer, measured in the same run on the same machine; the ratio is what counts. To
measure again, run `scripts/bench`, or `scripts/bench` with the name of a section. It writes this page.
"""
SECTION = """
Measured on {day} with Airflow {airflow}, Python {python}, {cores} cores ({machine}).

| what | ours | peer | theirs | ours / theirs | aim | met |
|---|--:|---|--:|--:|---|---|
"""


def main(names: list[str]) -> None:
    """
    Measure.

    :param names: which benchmarks; none for all.
    """
    unknown = set(names) - set(ALL)
    if unknown:
        raise SystemExit(f"No such benchmark: {', '.join(unknown)}. There are: {', '.join(ALL)}")
    missed = []
    for name in names or ALL:
        print(f"{name} ...", flush=True)
        figures: list[Figure] = importlib.import_module(name).measure()
        _write(name, figures)
        missed += [figure.what for figure in figures if not figure.holds]
    if missed:
        raise SystemExit("\n".join(["These aims are not met:", *missed]))


def _write(name: str, figures: list[Figure]) -> None:
    """Print the figures of a benchmark, and replace its section of the page."""
    rows = "".join(
        f"| {figure.what} | {figure.ours:,.1f} {figure.unit} | {figure.peer} | {figure.theirs:,.1f} {figure.unit} "
        f"| {figure.ratio:.3g} | {figure.aim} | {'yes' if figure.holds else '**no**'} |\n"
        for figure in figures
    )
    print(rows, flush=True)
    section = SECTION.format(
        day=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        airflow=version("apache-airflow"),
        python=platform.python_version(),
        cores=os.cpu_count(),
        machine=platform.machine(),
    )
    _, *known = PAGE.read_text().split("\n## ")
    sections = {title: body for title, _, body in (each.partition("\n") for each in known)}
    sections[name] = section + rows
    PAGE.write_text(HEAD + "".join(f"\n## {each}\n{sections[each].rstrip()}\n" for each in ALL if each in sections))


if __name__ == "__main__":
    main(sys.argv[1:])
