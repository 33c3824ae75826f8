"""A person sets Airflow 3.3 up in the browser, from an empty list of connections to the message in the inbox."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from _airflow import Airflow
from playwright.sync_api import expect

from .conftest import DESKTOP, PHONE

DAG_ID = "omnimessage_schedule_and_cancel"
PATIENCE = 60_000
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def page(browser: Any, airflow: Any) -> Iterator[Any]:
    """Sign in."""
    page = browser.new_page(viewport=DESKTOP)
    page.set_default_timeout(PATIENCE)
    page.goto(f"{airflow.url}/connections")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "admin")
    page.keyboard.press("Enter")
    page.wait_for_url("**/connections")
    yield page
    page.close()


@pytest.fixture(scope="module")
def connection(page: Any, sandbox: Any, picture: Any) -> None:
    """Add the connection by hand, with a wrong password at first."""
    page.get_by_role("button", name="Add Connection").first.click()
    form = page.get_by_role("dialog")
    form.locator("input[name=connection_id]").fill("omnimessage_default")
    form.get_by_role("combobox").first.fill("Messente")
    page.get_by_role("option", name="Messente Omnimessage").click()
    assert form.locator("input[name=host]").get_attribute("placeholder") == "https://api.messente.com/v1"
    assert form.locator("input[name=schema]").count() == 0
    expect(form).to_contain_text("API username")
    expect(form).to_contain_text("Base URL")
    form.locator("input[name=host]").fill(sandbox.url)
    form.locator("input[name=port]").fill("443")
    form.locator("input[name=login]").fill("sandbox")
    form.locator("input[name=password]").fill("wrong")
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    form.locator("#element_timezone").fill("Europe/Tallinn")
    form.locator("#element_dashboard_url").fill(f"{sandbox.inbox_url}#{{omnimessage_id}}")
    form.locator("input[name=element_timeout]").fill("20")
    form.get_by_role("combobox").nth(1).click()
    assert page.get_by_role("option").all_inner_texts() == ["low", "regular", "high"]
    page.get_by_role("option", name="high").click()
    expect(form).to_contain_text("Used when a message sets no sender")
    form.get_by_text("Sender", exact=True).scroll_into_view_if_needed()
    picture(page, "connection-form")
    form.locator("#element_push_url").fill("https://airflow.example.com/omnimessage")
    form.locator("#element_receiver_url").fill("http://airflow-api-server:8080/omnimessage")
    form.locator("input[name=element_reply_secret]").scroll_into_view_if_needed()
    picture(page, "connection-form-receiver")
    page.set_viewport_size(PHONE)
    for label in ("Receiver URL, public", "Receiver URL, internal", "Reply secret"):
        # a long word in the description would squeeze the label
        assert form.get_by_text(label, exact=True).bounding_box()["width"] > 60
    page.set_viewport_size(DESKTOP)
    # this sandbox posts no reports
    for field in ("push_url", "receiver_url"):
        form.locator(f"#element_{field}").fill("")
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Test Connection")).to_be_visible()


@pytest.fixture(scope="module")
def run(page: Any, airflow: Any, connection: None, tested: None) -> str:
    """Trigger a DAG with the button, and wait until it has ended."""
    return run_by_hand(page, airflow, DAG_ID)


def run_by_hand(page: Any, airflow: Any, dag_id: str) -> str:
    """Trigger a DAG, wait until its run has succeeded, and return the URL of the run's page."""
    page.goto(f"{airflow.url}/dags/{dag_id}")
    page.get_by_role("button", name=re.compile("^Trigger")).first.click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("Trigger")).last.click()
    page.wait_for_url("**/runs/manual__*")
    run_url = page.url.split("?")[0]
    # the page says Success of a task, too: whether the run has ended, the API knows
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_url.rpartition('/')[2]}"
    api = Airflow(airflow)
    deadline = time.monotonic() + 120
    while (state := api.call("GET", path)["state"]) in ("queued", "running") and time.monotonic() < deadline:
        page.wait_for_timeout(500)
    assert state == "success"
    return run_url


def message_of(airflow: Any, sandbox: Any, run_url: str) -> dict[str, Any]:
    """Return the message that a run has scheduled. Examples with a schedule send others at any time."""
    dag_id, run_id = run_url.split("/dags/")[1].split("/runs/")
    scheduled = Airflow(airflow).xcom(dag_id, unquote(run_id), "schedule")
    (message,) = (each for each in sandbox.messages if each["omnimessage_id"] == scheduled)
    return message


@pytest.fixture(scope="module")
def tested(page: Any, connection: None, picture: Any) -> dict[str, str]:
    """Press Test with the wrong password, correct it, and press again."""
    test = page.get_by_role("button", name="Test Connection")
    test.click()
    refusal = page.locator("[data-scope=toast][data-part=root]", has_text="Test Connection Failed")
    refusal_text = refusal.inner_text()
    picture(page, "wrong-password")
    page.get_by_role("button", name="Edit Connection").click()
    form = page.get_by_role("dialog")
    form.locator("input[name=password]").fill("sandbox")
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()
    test.click()
    greeting = page.locator("[data-scope=toast][data-part=root]", has_text="Test Connection Successful")
    return {"refusal": refusal_text, "greeting": greeting.inner_text()}


def test_a_wrong_password_is_explained_and_the_right_one_accepted(tested, sandbox):
    assert f"Wrong password: {sandbox.url} rejects the API username 'sandbox'" in tested["refusal"]
    assert f"Reached {sandbox.url}, which accepts the API username 'sandbox'." in tested["greeting"]


def test_the_values_of_the_form_reach_messente(airflow, run, sandbox):
    message = message_of(airflow, sandbox, run)
    assert message["body"]["priority"] == "high"
    assert message["state"] == "cancelled"


def test_the_tasks_link_leads_to_the_message_in_the_inbox(page, airflow, run, sandbox, picture):
    message = message_of(airflow, sandbox, run)
    page.goto(f"{run}/tasks/schedule/details")
    link = page.get_by_role("link", name="Message", exact=True)
    expect(link).to_have_attribute("href", f"{sandbox.inbox_url}#{message['omnimessage_id']}")
    picture(page, "task-link")
    with page.context.expect_page() as opened:
        link.click()
    inbox = opened.value
    inbox.set_viewport_size(DESKTOP)
    expect(inbox.locator(f"[id='{message['omnimessage_id']}']")).to_be_in_viewport()
    inbox.close()


def test_a_wait_leads_to_its_message_and_shows_what_it_waited_for(page, airflow, run, sandbox, picture):
    waiting = run_by_hand(page, airflow, "omnimessage_wait_for_delivery")
    message = message_of(airflow, sandbox, waiting)
    page.goto(f"{waiting}/tasks/wait/details")
    link = page.get_by_role("link", name="Message", exact=True)
    expect(link).to_have_attribute("href", f"{sandbox.inbox_url}#{message['omnimessage_id']}")
    picture(page, "wait-link")
    page.goto(f"{waiting}/tasks/wait/rendered_templates")
    expect(page.get_by_text(message["omnimessage_id"])).to_be_visible()


def test_the_rendered_template_can_be_read(page, run, picture):
    page.goto(f"{run}/tasks/schedule/rendered_templates")
    expect(page.get_by_text("+37255555555")).to_be_visible()
    expect(page.get_by_text(f'"{DAG_ID} is late: manual__', exact=False).first).to_be_visible()
    picture(page, "rendered-template")


def test_an_alert_that_is_not_scheduled_is_seen_and_stops_nothing(page, airflow, run, sandbox, picture):
    sandbox.add_fault("unauthorized", call="send", times="always")
    try:
        unguarded = run_by_hand(page, airflow, "omnimessage_dead_mans_switch")
    finally:
        sandbox.clear_faults()
    page.goto(unguarded)
    expect(page.get_by_text("report_in_time.arm").first).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 640})
    picture(page, "not-armed")
    page.goto(f"{unguarded}/tasks/report_in_time.arm")
    expect(page.get_by_text("THE ALERT IS NOT SCHEDULED").first).to_be_visible()
    picture(page, "not-armed-log")
    page.set_viewport_size(PHONE)
    page.goto(unguarded)
    expect(page.get_by_text("report_in_time.arm").first).to_be_visible()
    picture(page, "not-armed-phone")
    page.set_viewport_size(DESKTOP)
