"""A real Chromium, a whole Airflow 3.3 with an empty list of connections, and a sandbox for a person to look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _airflow import ROOT, AirflowHome, running_airflow, running_sandbox

from airflow_provider_omnimessage.sandbox import SandboxClient

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start Debian's Chromium, headless."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("There is no Chromium: install one (Debian: apt-get install chromium), or leave --browser out")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def picture() -> Callable[[Any, str], None]:
    """Keep what the page shows: in ``SCREENSHOTS``, as ``docs/images``, or else where nobody commits it."""
    folder = Path(os.environ.get("SCREENSHOTS", ROOT / ".airflow" / "browser"))
    folder.mkdir(parents=True, exist_ok=True)

    def keep(page: Any, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return keep


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxClient]:
    """Run a sandbox in a process of its own."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), "--port", "0") as announced:
        yield SandboxClient(announced["url"])


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowHome]:
    """Run the whole of Airflow 3.3; there is no connection yet."""
    home = AirflowHome(
        tmp_path_factory.mktemp("airflow"),
        dags=ROOT / "example_dags",
        connections={},
        extra={"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"},
    )
    with running_airflow(home):
        yield home
