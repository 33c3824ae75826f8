"""
What send windows and recipients' time zones cost a bulk send: the same file with and without them, in turns.

Each run is a process of its own, so that its peak memory is its own. Time is CPU time: the sandbox, in another process,
does the same work for both. The recipients are spread over countries with one zone and with many.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figure import Figure

COUNT = 100_000
ROUNDS = 3
AIM = 1.5
#: Prefixes with the number of digits that follow, and their share of the recipients.
COUNTRIES = [("+3725", 7, 30), ("+4479", 8, 20), ("+1212555", 4, 15), ("+1415", 7, 15), ("+614", 8, 10), ("+79", 9, 10)]
WITH = {"window": "09:00-20:00; days=mon-fri; timezone=recipient; holidays=EE", "timezone": "recipient"}


def measure() -> list[Figure]:
    """Send with and without, in turns, and take medians."""
    from _airflow import running_sandbox
    from bulk import connect

    from airflow_provider_omnimessage.sandbox import SandboxClient

    with tempfile.TemporaryDirectory() as folder, running_sandbox(Path(folder), "--port", "0") as announced:
        connect(announced["url"])
        source = _people(Path(folder))
        runs: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
        for _ in range(ROUNDS):
            for which, results in runs.items():
                results.append(_run(which, source, folder))
                SandboxClient(announced["url"]).reset()
    (seconds, memory), (plain_seconds, plain_memory) = (
        [statistics.median(values) for values in zip(*results, strict=True)] for results in runs.values()
    )
    what = f"of a bulk of {COUNT:,} with a window and recipients' time zones"
    peer = "the same without them"
    aim = f"at most {AIM} times the peer"
    return [
        Figure(f"CPU time {what}", "s", seconds, peer, plain_seconds, aim, seconds <= AIM * plain_seconds),
        Figure(f"Peak memory {what}", "MB", memory, peer, plain_memory, aim, memory <= AIM * plain_memory),
    ]


def _people(folder: Path) -> Path:
    generator = random.Random(17)
    weights = [share for *_, share in COUNTRIES]
    path = folder / "people.jsonl"
    with open(path, "w") as lines:
        for index, (prefix, digits, _) in enumerate(generator.choices(COUNTRIES, weights, k=COUNT)):
            # the sandbox rejects some numbers by their end, never by a 9
            number = f"{prefix}{generator.randrange(10 ** (digits - 1)):0{digits - 1}}9"
            lines.write(json.dumps({"to": number, "name": f"Person {index}"}) + "\n")
    return path


def _run(which: str, source: Path, folder: str) -> tuple[float, float]:
    environment = {**os.environ, "AIRFLOW_HOME": folder, "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, __file__, which, str(source)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{which} failed:\n{done.stderr[-3000:]}")
    seconds, memory = map(float, done.stdout.split()[-2:])
    return seconds, memory


def _send(which: str, source: Path) -> None:
    from bulk import send_file

    from airflow_provider_omnimessage.api import number_zones

    if which == "without":
        number_zones.is_installed = lambda: False  # type: ignore[assignment]
    results = source.with_suffix(".results.jsonl")
    begin = time.process_time()
    send_file(source, COUNT, time_to_send="2098-11-24T09:00", results_path=str(results), **_settings(which))
    seconds = time.process_time() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds} {memory}")


def _settings(which: str) -> dict[str, str]:
    return WITH if which == "with" else {}


if __name__ == "__main__":
    _send(sys.argv[1], Path(sys.argv[2]))
