"""The commands in README and docs: those of a page run in order, in one shell, against a sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from _airflow import ROOT, AirflowHome
from markdown_it import MarkdownIt

from airflow_provider_omnimessage.sandbox import Sandbox

PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "_build" not in page.parts]
PROVEN_ELSEWHERE = {
    "pip install ": "tests/matrix installs the built wheel into each Airflow",
    "scripts/test": "you are in it",
    "scripts/check": "CI runs it before this",
    "scripts/docs": "scripts/check runs it; with --serve it does not end",
    "scripts/release": "needs a dated changelog; what takes long in it, scripts/check, runs in CI",
    ".venv/bin/python tests/system/bulk_memory.py": "tests/system/test_bulk_memory.py runs it in a process of its own",
    "scripts/demo --ui": "does not end; tests/browser starts the same Airflow and the same inbox",
    "python -m airflow_provider_omnimessage.sandbox": "does not end; tests/system/test_tutorial.py ends it",
}
FOR_THE_REAL_ACCOUNT = "YOUR"
"""Marks commands that need an account, which tests cannot run."""
DEFAULT_SANDBOX = "127.0.0.1:8025"


def pieces(page: Path) -> list[str]:
    return [
        token.content
        for token in MarkdownIt("commonmark").parse(page.read_text())
        if token.type == "fence" and token.info.strip() in ("bash", "shell", "console", "sh")
    ]


def commands(page: Path) -> list[str]:
    lines = [line for piece in pieces(page) if FOR_THE_REAL_ACCOUNT not in piece for line in piece.splitlines()]
    to_run = [line for line in lines if line.strip() and not line.startswith(tuple(PROVEN_ELSEWHERE))]
    return [f"{ROOT}/{line}" if line.startswith("scripts/") else line for line in to_run]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """Create Airflow's database, which every page gets a copy of."""
    home = AirflowHome(tmp_path_factory.mktemp("migrated"), dags=ROOT / "example_dags", connections={})
    home.prepare()
    return home.folder / "airflow.db"


@pytest.fixture
def shell(omnimessage_sandbox, tmp_path, migrated):
    """Return a function that runs a script as a reader would, with an Airflow and the example files."""
    (tmp_path / "example_dags").symlink_to(ROOT / "example_dags")
    (tmp_path / "oncall.txt").write_text("+37255555555\n")
    (tmp_path / "alert.txt").write_text("The report is late\n")
    (tmp_path / "to.txt").write_text("+37255555555\n")
    (tmp_path / "text.txt").write_text("Good morning\n")
    (tmp_path / "people.csv").write_text("to\n+37255555555\n+37255555556\n")
    (tmp_path / "prices.csv").write_text("prefix,price\n372,0.05\n")
    home = tmp_path / "airflow"
    (home / "dags").mkdir(parents=True)
    shutil.copy(migrated, home)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_OMNIMESSAGE_DEFAULT": omnimessage_sandbox.airflow_conn,
        "NO_PROXY": "127.0.0.1,localhost",
    }

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def omnimessage_sandbox_server():
    """Run a sandbox with the default options, not the one that other tests share."""
    with Sandbox() as running:
        yield running


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if commands(page) and page.stem != "tutorial"],  # it has tests/system/test_tutorial.py
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_commands_of_a_page_run(page, shell, omnimessage_sandbox):
    from airflow_provider_omnimessage.api.messages import sms
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    script = "\n".join(commands(page))
    if "OMNIMESSAGE_ID" in script:
        with OmnimessageHook() as hook:
            accepted = hook.send("+37255555555", [sms("Late")], time_to_send=timedelta(hours=1))
        script = script.replace("OMNIMESSAGE_ID", accepted.omnimessage_id)
    shell(script.replace(DEFAULT_SANDBOX, omnimessage_sandbox.inbox_url.split("/")[2]))


def test_commands_that_are_proven_elsewhere_still_exist():
    lines = [line for page in PAGES for piece in pieces(page) for line in piece.splitlines()]
    assert [begin for begin in PROVEN_ELSEWHERE if not any(line.startswith(begin) for line in lines)] == []
