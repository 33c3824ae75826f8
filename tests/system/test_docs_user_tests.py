"""The tests that users are shown, run as theirs are: with the plugin, their conftest.py and an Airflow of their own."""

from __future__ import annotations

import os
import subprocess
import sys

from _airflow import ROOT


def test_the_tests_on_the_pages_pass(tmp_path):
    """They run as a user's do: in a process of their own, with the plugin, and without a database at first."""
    folder = ROOT / "example_dags" / "testing"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert "3 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
