"""Makes clean environments: one Airflow, the built wheel, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from airflow_provider_omnimessage.sandbox import Sandbox

from .expectations import Version

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
UV = Path(sys.executable).parent / "uv"


class Environment:
    """
    One version's environment, in which commands run against a sandbox of its own.

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
        extra = {"dashboard_url": f"{sandbox.inbox_url}#{{omnimessage_id}}"}
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))},
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW_CONN_OMNIMESSAGE_DEFAULT": json.dumps({**sandbox.connection, "extra": extra}),
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONWARNINGS": "ignore",
        }

    def run(self, *words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """
        Run this environment's Python to its end.

        :param words: its arguments.
        :param stdin: what it can read.
        """
        return subprocess.run(
            [str(self.python), *map(str, words)],
            env=self.variables,
            cwd=self.folder,  # not the checkout, whose package would be found before the wheel's
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def must(self, *words: str | Path) -> str:
        """
        Run it, and give what it printed.

        :param words: its arguments.
        """
        done = self.run(*words)
        assert done.returncode == 0, f"{words}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout


def build_wheel(folder: Path) -> Path:
    """
    Build what users install.

    :param folder: where to.
    """
    command = [sys.executable, "-m", "build", "--wheel", "--installer", "uv", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def make_venv(version: Version, wheel: Path) -> Path:
    """
    Make a version's environment, or renew the wheel in the one that is there.

    :param version: which.
    :param wheel: what users install.
    :return: its interpreter.
    """
    folder = ROOT / f".venv-{version.line}"
    python = folder / "bin" / "python"
    made_of = folder / "made-of"
    wanted = [f"apache-airflow=={version.airflow}", *version.more]
    if not made_of.exists() or made_of.read_text() != f"{wanted} {version.as_of}":
        shutil.rmtree(folder, ignore_errors=True)
        uv("venv", "--python", find_python(version.python), str(folder))
    # asked for together, so that the wheel cannot move Airflow
    uv(
        *("pip", "install", "--python", str(python), "--exclude-newer", version.as_of),
        *("--reinstall-package", "airflow-provider-omnimessage", *wanted, str(wheel)),
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
