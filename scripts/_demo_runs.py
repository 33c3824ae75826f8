"""Runs DAGs for the demo, in a process that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from _airflow import ROOT, AirflowHome


@contextmanager
def running(home: AirflowHome, plan: list[dict[str, Any]]) -> Iterator[Iterator[dict[str, Any]]]:
    """Run DAGs in a process of its own, which is killed at the end of the block."""
    plan_file, report, log = (home.folder / name for name in ("plan.json", "report.jsonl", "runs.log"))
    plan_file.write_text(json.dumps(plan))
    report.write_text("")
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "_runs.py"), str(plan_file), str(report)],
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with open(report) as lines:
            yield runs_in(lines, process, log)
    finally:
        kill_group(process)


def runs_in(lines: Any, process: subprocess.Popen[bytes], log: Path) -> Iterator[dict[str, Any]]:
    """Yield each run as soon as it has ended."""
    line = ""
    while True:
        ended = process.poll() is not None
        line += lines.readline()
        if line.endswith("\n"):
            yield json.loads(line)
            line = ""
        elif ended:
            raise SystemExit(f"The example DAGs did not run; the log is {log}:\n{tail(log)}")
        else:
            time.sleep(0.05)


def tail(log: Path) -> str:
    """Return the end of a log."""
    return log.read_text(errors="replace")[-4000:]


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children, as ``kill -9`` does."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
