"""What importing the public classes costs a DAG file, as far as it does not depend on the machine's speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from imports import AIRFLOW, OURS
exec(AIRFLOW)
before = set(sys.modules)
exec(OURS)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_after_airflow_sdk_the_public_classes_import_only_modules_of_this_package():
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    command = [sys.executable, "-c", PROGRAM, str(benchmarks)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = json.loads(done.stdout.splitlines()[-1])
    assert "airflow_provider_omnimessage.operators.omnimessage" in imported
    assert [name for name in imported if not name.startswith("airflow_provider_omnimessage")] == []
