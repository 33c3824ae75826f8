"""A bulk send in a process of its own: who gets what, in how many calls, and how much memory it takes at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

#: The larger of the two; a soak takes 100,000.
COUNT = int(os.environ.get("OMNIMESSAGE_BULK", "20000"))
#: What ten times the rows may take more, in MiB: less than their ids alone would.
MORE = 6.0


def send(sandbox, folder: Path, count: int) -> dict:
    sandbox.reset()
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_OMNIMESSAGE_DEFAULT": sandbox.airflow_conn,
    }
    program = str(Path(__file__).parent / "bulk_memory.py")
    command = [sys.executable, program, str(folder), str(count), str(folder / "results.jsonl")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_memory_does_not_grow_with_the_recipients(sandbox, tmp_path):
    few = send(sandbox, tmp_path, COUNT // 10)
    many = send(sandbox, tmp_path, COUNT)
    assert many["accepted"] == COUNT
    assert many["peak_mib"] - few["peak_mib"] < MORE, (few, many)
    calls = [request for request in sandbox.requests if request["call"] == "bulk"]
    assert len(calls) == COUNT // 1000
    reached = Counter(message["to"] for message in sandbox.messages)
    assert reached == Counter(f"+3725{index:06d}9" for index in range(COUNT)), "nobody gets two, nobody is forgotten"
    ids = [json.loads(line)["omnimessage_id"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert ids == [message["omnimessage_id"] for message in sorted(sandbox.messages, key=lambda each: each["to"])]
