"""Makes clean environments: one Airflow, the built wheel, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path

from _airflow import AirflowHome, RunningAirflow

from airflow_provider_omnimessage.sandbox import Sandbox

from .expectations import Version

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
#: Seconds for all DAGs of one version, which take a tenth of it on an idle machine.
LIMIT = 300
UV = Path(sys.executable).parent / "uv"


class Environment:
    """
    One version's environment: commands and a whole Airflow run in it, against a sandbox of its own.

    :param version: which.
    :param folder: its ``AIRFLOW_HOME``.
    :param python: its interpreter.
    :param sandbox: in Messente's place.
    """

    def __init__(self, version: Version, folder: Path, python: Path, sandbox: Sandbox) -> None:
        self.version = version
        self.folder = folder
        self.python = python
        self.sandbox = sandbox
        dashboard = {"dashboard_url": f"{sandbox.inbox_url}#{{omnimessage_id}}"}
        self.home = AirflowHome(
            folder,
            dags=HERE / "dags",
            connections={"omnimessage_default": json.dumps({**sandbox.connection, "extra": dashboard})},
            extra={
                "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
                "PYTHONWARNINGS": "ignore",
                **version.settings(folder),
            },
            python=str(python),
        )
        self.variables = self.home.environment
        for name in {name for name in self.variables if name.startswith("PYTHON")} - {"PYTHONWARNINGS"}:
            del self.variables[name]

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """
        Run this environment's Python to its end.

        :param words: its arguments.
        """
        return subprocess.run(
            [str(self.python), *map(str, words)],
            env=self.variables,
            cwd=self.folder,  # not the checkout, whose package would be found before the wheel's
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def must(self, *words: str | Path) -> str:
        """
        Run it, and return its output.

        :param words: its arguments.
        """
        done = self.run(*words)
        assert done.returncode == 0, f"{words}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def live(self, is_over: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
        """
        Run the whole of Airflow, which runs every DAG of the matrix, until everything that is expected has happened.

        :param is_over: returns whether it has. If it has not within :data:`LIMIT`, the tests show what is missing.
        :param meanwhile: called twice a second.
        """
        processes = RunningAirflow(self.home)
        try:
            processes.start(self.version.components)
            deadline = time.monotonic() + LIMIT
            while not is_over() and time.monotonic() < deadline:
                processes.check()
                meanwhile()
                time.sleep(0.5)
        finally:
            processes.stop()

    def runs_have_ended(self, dag_ids: Iterable[str]) -> bool:
        """
        Return whether every DAG has run, and no further run is due.

        :param dag_ids: which.
        """
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.closing(sqlite3.connect(self.folder / "airflow.db", timeout=60)) as database:
            states = database.execute("SELECT dag_id, state FROM dag_run").fetchall()
            to_come = database.execute(
                "SELECT count(*) FROM dag WHERE next_dagrun_create_after <= ?", (now,)
            ).fetchone()[0]
        ended = {state in ("success", "failed") for _, state in states} == {True}
        return ended and not to_come and {dag_id for dag_id, _ in states} == set(dag_ids)

    def states(self, tasks: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """
        Return the current states of tasks; those that do not exist yet are left out.

        :param tasks: each with its DAG.
        """
        with contextlib.closing(sqlite3.connect(self.folder / "airflow.db", timeout=60)) as database:
            rows = database.execute("SELECT dag_id, task_id, state FROM task_instance").fetchall()
        found = {(dag_id, task_id): state for dag_id, task_id, state in rows}
        return {task: found[task] for task in tasks if task in found}

    def came_back(self, dag_id: str, task_id: str) -> list[bool]:
        """
        Return for each time that a task came back whether it was early: before the time that it had set.

        :param dag_id: its DAG.
        :param task_id: which.
        """
        key = "instance.id = one.ti_id"
        if self.version.is_2:
            key = "(instance.dag_id, instance.task_id, instance.run_id) = (one.dag_id, one.task_id, one.run_id)"
        query = (
            f"SELECT one.reschedule_date, one.start_date FROM task_reschedule one JOIN task_instance instance ON {key} "
            "WHERE instance.dag_id = ? AND instance.task_id = ? ORDER BY one.id"
        )
        with contextlib.closing(sqlite3.connect(self.folder / "airflow.db", timeout=60)) as database:
            rows = database.execute(query, (dag_id, task_id)).fetchall()
        back_at = [start for _, start in rows[1:]]
        return [back < until for (until, _), back in zip(rows, back_at, strict=False)]

    def log(self, dag_id: str, task_id: str) -> str:
        """
        Read the logs of a task, of all its tries and runs.

        :param dag_id: its DAG.
        :param task_id: which.
        """
        folder = self.folder / "logs" / f"dag_id={dag_id}"
        return "".join(
            path.read_text() for path in sorted(folder.rglob("*.log*")) if f"task_id={task_id}" in path.parts
        )

    def about_callbacks(self) -> str:
        """Read the end of the log of the process that calls the callbacks of DAGs, and of its logs for each file."""
        process = "scheduler" if self.version.is_2 else "dag-processor"
        logs = [self.folder / "processes" / f"{process}.log", *(self.folder / "logs").rglob("*matrix*.py.log")]
        return "".join(f"\n{path}:\n{path.read_text(errors='replace')[-3000:]}" for path in logs)

    def times_on_a_worker(self, dag_id: str, task_id: str) -> int:
        """
        Count how often workers took a task up.

        :param dag_id: its DAG.
        :param task_id: which.
        """
        return self.log(dag_id, task_id).count(self.version.first_words)


def build_wheel(folder: Path) -> Path:
    """
    Build what users install.

    :param folder: where to.
    """
    command = [sys.executable, "-m", "build", "--wheel", "--installer", "uv", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def make_venv(version: Version, wheel: Path, suffix: str = "", extra: str = "") -> Path:
    """
    Create a version's environment, or reinstall the wheel in the existing one.

    :param version: the version.
    :param wheel: what users install.
    :param suffix: of the folder's name, for another environment of the same version.
    :param extra: the wheel's extra to install, such as ``receiver``.
    :return: its interpreter.
    """
    folder = ROOT / f".venv-{version.line}{suffix}"
    python = folder / "bin" / "python"
    made_of = folder / "made-of"
    wanted = [f"apache-airflow=={version.airflow}", *version.more]
    if not made_of.exists() or made_of.read_text() != f"{wanted} {version.as_of}":
        shutil.rmtree(folder, ignore_errors=True)
        uv("venv", "--python", find_python(version.python), str(folder))
    # in one command, so that installing the wheel cannot change Airflow's version
    uv(
        *("pip", "install", "--python", str(python), "--exclude-newer", version.as_of),
        *(
            "--reinstall-package",
            "airflow-provider-omnimessage",
            *wanted,
            f"airflow-provider-omnimessage{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}",
        ),
    )
    made_of.write_text(f"{wanted} {version.as_of}")
    return python


def find_python(wanted: str) -> str:
    """
    Find an interpreter, or do with the one that runs this.

    :param wanted: as ``3.12``.
    """
    found = subprocess.run(
        [UV, "python", "find", "--no-python-downloads", wanted],
        env=_with_all_of_pyenv(),
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else sys.executable


def uv(*words: str) -> None:
    """
    Run uv to its end.

    :param words: its arguments.
    """
    done = subprocess.run([UV, "--quiet", "--no-python-downloads", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _with_all_of_pyenv() -> dict[str, str]:
    """Let pyenv, where there is one, offer every Python it has; by itself it offers the one that is chosen."""
    if shutil.which("pyenv") is None:
        return dict(os.environ)
    versions = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False)
    return {**os.environ, "PYENV_VERSION": ":".join(versions.stdout.split())}
