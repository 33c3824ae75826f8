"""The connection form of Airflow 2.11, which is drawn with WTForms from the hook's methods."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from _airflow import free_port
from matrix.environments import Environment, build_wheel, make_venv
from matrix.expectations import VERSIONS
from playwright.sync_api import expect

from .conftest import DESKTOP

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def airflow_2(sandbox: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the web server of Airflow 2.11, with an administrator."""
    version = next(version for version in VERSIONS if version.line == "2.11")
    python = make_venv(version, build_wheel(tmp_path_factory.mktemp("dist")), "-browser")
    environment = Environment(version, tmp_path_factory.mktemp("airflow2"), python, sandbox)
    port = free_port()
    environment.variables |= {
        "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
        "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),
        "AIRFLOW__WEBSERVER__WORKERS": "1",
        "AIRFLOW__WEBSERVER__SECRET_KEY": "only-for-this-test",
    }
    environment.must("-m", "airflow", "db", "migrate")
    environment.must(
        *("-m", "airflow", "users", "create", "--username", "admin", "--password", "admin", "--role", "Admin"),
        *("--firstname", "A", "--lastname", "Dmin", "--email", "admin@example.com"),
    )
    with open(environment.folder / "webserver.log", "wb") as log:
        process = subprocess.Popen(
            [environment.python, "-m", "airflow", "webserver"],
            env=environment.variables,
            cwd=environment.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        await_answer(f"{url}/health", process)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def await_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    """
    Wait until a server responds.

    :param url: the URL to request.
    :param process: the server.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the web server ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError("the web server did not answer within two minutes")


def test_the_form_has_its_fields_and_its_test_explains(browser, airflow_2, sandbox, picture):
    page = browser.new_page(viewport=DESKTOP)
    page.set_default_timeout(60_000)
    page.goto(f"{airflow_2}/login/")
    page.fill("#username", "admin")
    page.fill("#password", "admin")
    page.click("input[type=submit]")
    page.wait_for_url("**/home")
    page.goto(f"{airflow_2}/connection/add")
    page.fill("#conn_id", "by_hand")
    page.select_option("#conn_type", "omnimessage", force=True)
    for hidden in ("schema", "port", "extra"):
        expect(page.locator(f"#{hidden}")).to_be_hidden()
    expect(page.locator("label[for=login]")).to_have_text("API username")
    page.fill("#host", sandbox.url)
    page.fill("#login", "sandbox")
    page.fill("#password", "wrong")
    page.fill("#extra__omnimessage__timezone", "Europe/Tallinn")
    expect(page.get_by_text("an IANA name such as Europe/Tallinn")).to_be_visible()
    page.click("#test-connection")
    expect(page.get_by_text("Wrong password: ")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    picture(page, "connection-form-2.11")
    page.fill("#password", "sandbox")
    page.click("#test-connection")
    expect(page.get_by_text(f"Reached {sandbox.url}")).to_be_visible()
    page.close()
