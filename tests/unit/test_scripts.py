"""The help of each script builds nothing, and every install line of the documentation works."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import _installs
import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
NAMES = sorted(path.name for path in SCRIPTS.iterdir() if path.is_file() and not path.name.startswith("_"))


@pytest.mark.parametrize("name", NAMES)
def test_help_is_printed_at_once_and_nothing_is_built(name, tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    before = set(tmp_path.rglob("*"))
    done = subprocess.run(
        [f"scripts/{name}", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"scripts/{name}" in done.stdout
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("target", [".", ".[sandbox]", "pytest", "apache-airflow-providers-fab"])
def test_a_target_that_exists_can_be_installed(target):
    assert _installs.problem(target) is None


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("airflow-provider-omnimessage", "is not on PyPI yet"),
        ("airflow_provider_omnimessage[sandbox]==0.2.0", "is not on PyPI yet"),
        (".[sandbx]", "has no extra called ['sandbx']"),
        ("omnimessage-provider", "is not in ON_PYPI"),
        ("/path/to/the/checkout", "is neither a requirement nor a path of a checkout"),
    ],
)
def test_a_target_that_does_not_exist_is_reported(target, reason):
    assert _installs.problem(target).startswith(reason)


def test_every_install_line_of_the_documentation_is_found():
    places = [place for place, _ in _installs.lines()]
    assert any(place.startswith("README.md:") for place in places)
    assert any(place.startswith("docs/tutorial.md:") for place in places)


def test_every_install_line_can_be_followed():
    assert _installs.problems() == []
