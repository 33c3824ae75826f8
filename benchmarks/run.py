"""Runs the benchmarks that are named, or all, and writes docs/benchmarks.md when all were run."""

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

HEAD = """# Benchmarks

Each figure is next to that of a peer, measured in the same run on the same machine; the ratio is what counts. To
measure again, run `scripts/bench`, which writes this page.

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
    figures: list[Figure] = []
    for name in names or ALL:
        print(f"{name} ...", flush=True)
        figures += importlib.import_module(name).measure()
    rows = "".join(
        f"| {figure.what} | {figure.ours:,.1f} {figure.unit} | {figure.peer} | {figure.theirs:,.1f} {figure.unit} "
        f"| {figure.ratio:.3g} | {figure.aim} | {'yes' if figure.holds else '**no**'} |\n"
        for figure in figures
    )
    print(rows)
    if not names:
        head = HEAD.format(
            day=f"{datetime.now(timezone.utc):%Y-%m-%d}",
            airflow=version("apache-airflow"),
            python=platform.python_version(),
            cores=os.cpu_count(),
            machine=platform.machine(),
        )
        (ROOT / "docs" / "benchmarks.md").write_text(head + rows)
    if not all(figure.holds for figure in figures):
        raise SystemExit("Not every aim is met")


if __name__ == "__main__":
    main(sys.argv[1:])
