"""Each call against each fault: how many requests it makes, what exists in the end, and how the task ends."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from faults_of_calls import CONNECTIONS, FAULTS
from full_size import first, full_size

from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
)
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor
from airflow_provider_omnimessage.tasks import cancelling

TO = "+37255555555"
DOUBT = "Look for it in Messente's dashboard"


class Row(NamedTuple):
    """What one call does about one fault."""

    fault: str
    requests: str
    exists: int | str
    tries: int
    state: str
    said: str
    invariant: str


POST = [
    Row("refused", "", 0, 2, "failed", "nothing was sent", "What was surely not sent takes the task's retries"),
    Row("DNS failure", "", 0, 2, "failed", "nothing was sent", "What was surely not sent takes the task's retries"),
    Row("TLS failure", "", 0, 2, "failed", "nothing was sent", "No credentials before a trusted TLS connection"),
    Row("certificate refused", "", 0, 1, "failed", "REQUESTS_CA_BUNDLE", "What no repeat changes burns no retries"),
    Row("wrong password", "P", 0, 1, "failed", "check the connection's login", "Refused credentials burn no retries"),
    Row("cut before processing", "P", 0, 1, "failed", DOUBT, "Never twice: it looks like the next row"),
    Row("cut after it", "P", 1, 1, "failed", DOUBT, "Never twice: a request whose response was lost is never repeated"),
    Row("slower than the timeout", "P", 1, 1, "failed", DOUBT, "Never twice: a slow answer is a lost one"),
    Row("429", "PP", 1, 1, "success", "repeating in", "What was not processed is repeated"),
    Row("429, Retry-After 7", "PP", 1, 1, "success", "repeating in", "Not before Retry-After is over"),
    Row("429, Retry-After a date", "P", 0, 2, "failed", "nothing was sent", "No retry asks before the pause is over"),
    Row(
        "429, Retry-After past the deadline",
        "P",
        0,
        2,
        "failed",
        "rate limited",
        "No pause leads past the deadline",
    ),
    Row("500", "P", 0, 1, "failed", DOUBT, "Never twice: a server error may come after the sending"),
    Row("502 as HTML", "P", 0, 1, "failed", DOUBT, "Never twice: a gateway does not know what became of it"),
    Row("503", "P", 0, 1, "failed", DOUBT, "Never twice: a gateway does not know what became of it"),
    Row("200 with broken JSON", "P", 1, 1, "failed", DOUBT, "Never twice: accepted, but its id is unknown"),
    Row("200 with a page", "P", 0, 1, "failed", DOUBT, "Never twice: whoever answered may have passed it on"),
    Row("redirect to another host", "P", 0, 1, "failed", "not followed", "Credentials never cross a redirect"),
]

DELETE = [
    Row("refused", "", "scheduled", 2, "failed", "nothing was sent", "The task says that nothing is cancelled"),
    Row("DNS failure", "", "scheduled", 2, "failed", "nothing was sent", "The task says that nothing is cancelled"),
    Row("TLS failure", "", "scheduled", 2, "failed", "SSLError", "No credentials before a trusted connection"),
    Row("certificate refused", "", "scheduled", 1, "failed", "REQUESTS_CA_BUNDLE", "Burns no retries"),
    Row("wrong password", "D", "scheduled", 1, "failed", "check the connection's login", "Burns no retries"),
    Row("cut before processing", "DD", "cancelled", 1, "success", "repeating in", "To cancel twice does no harm"),
    Row("cut after it", "DDG", "cancelled", 1, "success", "is cancelled", "A 404 after a lost answer is looked up"),
    Row("cut after it, each time", "D+G", "cancelled", 1, "success", "is cancelled", "So is an answer that never came"),
    Row("slower than the timeout", "DDG", "cancelled", 1, "success", "is cancelled", "A slow answer is a lost one"),
    Row("429", "DD", "cancelled", 1, "success", "repeating in", "Repeated"),
    Row("429, Retry-After 7", "DD", "cancelled", 1, "success", "repeating in", "Not before Retry-After is over"),
    Row(
        "429, Retry-After past the deadline",
        "D",
        "scheduled",
        2,
        "failed",
        "rate limited",
        "The deadline holds",
    ),
    Row("500", "DD", "cancelled", 1, "success", "repeating in", "Bad weather fails no pipeline"),
    Row("502 as HTML", "DD", "cancelled", 1, "success", "repeating in", "Bad weather fails no pipeline"),
    Row("503", "DD", "cancelled", 1, "success", "repeating in", "Bad weather fails no pipeline"),
    Row("200 with broken JSON", "DG", "cancelled", 1, "success", "Cancelled", "Half a response is looked up"),
    Row("200 with a page", "DGD", "cancelled", 1, "success", "not Messente's JSON", "A portal's page cancels nothing"),
    Row("redirect to another host", "D", "scheduled", 1, "failed", "not followed", "No credentials across a redirect"),
]

#: number of requests, and the error if it fails
GET = {
    "refused": ("", "nothing was sent"),
    "DNS failure": ("", "nothing was sent"),
    "TLS failure": ("", "SSLError"),
    "certificate refused": ("", "REQUESTS_CA_BUNDLE"),
    "wrong password": ("G", "check the connection's login"),
    "cut before processing": ("GG", None),
    "cut after it": ("GG", None),
    "cut after it, each time": ("G+", "no complete response"),
    "slower than the timeout": ("GG", None),
    "429": ("GG", None),
    "429, Retry-After 7": ("GG", None),
    "429, Retry-After past the deadline": ("G", "rate limited"),
    "500": ("GG", None),
    "502 as HTML": ("GG", None),
    "503": ("GG", None),
    "200 with broken JSON": ("G", "is not Messente's JSON"),
    "200 with a page": ("G", "is not Messente's JSON"),
    "redirect to another host": ("G", "not followed"),
}

TIMED_OUT = "Not delivered within the timeout of 0:00:00.5"

#: The sensor, deferred: a fault hits its first poll on the worker, and the first one of its trigger.
SENSOR = [
    Row("refused", "", "", 1, "failed", f"{TIMED_OUT}.*nothing was sent", "Patience up to the timeout, and its reason"),
    Row("DNS failure", "", "", 1, "failed", f"{TIMED_OUT}.*nothing was sent", "Patience up to the timeout"),
    Row("TLS failure", "", "", 1, "failed", f"{TIMED_OUT}.*SSL", "No credentials before a trusted connection"),
    Row("certificate refused", "", "", 1, "failed", "REQUESTS_CA_BUNDLE", "No time is spent on what will not pass"),
    Row("wrong password", "G", "", 1, "failed", "check the connection's login", "Refused at once, for all"),
    Row("cut before processing", "GGG", "", 1, "success", "delivered", "Bad weather fails no pipeline"),
    Row("cut after it", "GGG", "", 1, "success", "delivered", "Bad weather fails no pipeline"),
    Row("cut after it, each time", "G+", "", 1, "failed", f"{TIMED_OUT}.*no complete response", "The timeout holds"),
    Row("slower than the timeout", "GGG", "", 1, "success", "delivered", "Bad weather fails no pipeline"),
    Row("429", "GGG", "", 1, "success", "delivered", "Bad weather fails no pipeline"),
    Row(
        "429, Retry-After 7",
        "G",
        "",
        1,
        "failed",
        f"{TIMED_OUT}.*rate limited",
        "Not before Retry-After is over",
    ),
    Row(
        "429, Retry-After past the deadline",
        "G",
        "",
        1,
        "failed",
        f"{TIMED_OUT}.*rate limited",
        "The timeout holds",
    ),
    Row("500", "GGG", "", 1, "success", "delivered", "Bad weather fails no pipeline"),
    Row("502 as HTML", "GGG", "", 1, "success", "delivered", "Bad weather fails no pipeline"),
    Row("503", "GGG", "", 1, "success", "delivered", "Bad weather fails no pipeline"),
    Row("200 with broken JSON", "GGG", "", 1, "success", "delivered", "Half an answer is none, and passes"),
    Row("200 with a page", "GGG", "", 1, "success", "delivered", "A portal's page delivers nothing, and passes"),
    Row("redirect to another host", "G", "", 1, "failed", "not followed", "No credentials across a redirect"),
]

#: The check of the credentials: number of requests, and its message.
CHECK = {
    "refused": ("", "No route: .*nothing was sent"),
    "DNS failure": ("", "No route: .*nothing was sent"),
    "TLS failure": ("", "SSLError"),
    "certificate refused": ("", "Not trusted: .*REQUESTS_CA_BUNDLE"),
    "wrong password": ("G", "Wrong password: "),
    "cut before processing": ("G", "no complete response"),
    "cut after it": ("G", "no complete response"),
    "cut after it, each time": ("G", "no complete response"),
    "slower than the timeout": ("G", "no complete response"),
    "429": ("G", "rate limited"),
    "429, Retry-After 7": ("G", "rate limited"),
    "429, Retry-After past the deadline": ("G", "rate limited"),
    "500": ("G", "server error"),
    "502 as HTML": ("G", "server error"),
    "503": ("G", "server error"),
    "200 with broken JSON": ("G", "Not Messente: "),
    "200 with a page": ("G", "Not Messente: "),
    "redirect to another host": ("G", "not followed"),
}


def requests_made(sandbox: Any) -> str:
    """The first letters of the methods of all requests, in their order."""
    return "".join(request["method"][0] for request in sandbox.requests)


def as_planned(pattern: str, seen: str) -> bool:
    return re.fullmatch(pattern, seen) is not None


def test_the_matrix_is_whole():
    assert {row.fault for row in POST} == FAULTS.keys() - {"cut after it, each time"}
    assert {row.fault for row in DELETE} == FAULTS.keys() - {"429, Retry-After a date"}
    assert {row.fault for row in DELETE} == {row.fault for row in SENSOR} == GET.keys() == CHECK.keys()


@pytest.mark.parametrize("row", first(1, POST), ids=lambda row: row.fault)
def test_schedule(dag, run_dag, sandbox, strike, pauses, row):
    ScheduleOmnimessageOperator(
        task_id="schedule",
        to=TO,
        time_to_send=timedelta(hours=1),
        messages=[sms("S3CRET")],
        retries=1,
        retry_delay=timedelta(0),
    )
    strike(row.fault, "send")
    run = run_dag(dag)
    assert as_planned(row.requests, requests_made(sandbox))
    assert len(sandbox.messages) == row.exists, row.invariant
    assert (run.tries["schedule"], run.tasks["schedule"]) == (row.tries, row.state)
    assert row.said in run.log
    assert sandbox.password not in run.log
    if row.fault == "429, Retry-After 7":
        assert 7 <= pauses[0] <= 8


@full_size
@pytest.mark.parametrize("row", DELETE, ids=lambda row: row.fault)
def test_cancel(dag, run_dag, sandbox, strike, row):
    with OmnimessageHook() as hook:
        accepted = hook.send(TO, [sms("S3CRET")], time_to_send=timedelta(hours=1))
    CancelScheduledMessageOperator(
        task_id="cancel", omnimessage_id=accepted.omnimessage_id, retries=1, retry_delay=timedelta(0)
    )
    strike(row.fault, "cancel")
    run = run_dag(dag)
    assert as_planned(f"P{row.requests}", requests_made(sandbox))
    assert sandbox.messages[0]["state"] == row.exists, row.invariant
    assert (run.tries["cancel"], run.tasks["cancel"]) == (row.tries, row.state)
    assert row.said in run.log


@pytest.mark.parametrize("fault", first(4, GET))
def test_delivery_report(sandbox, strike, pauses, fault):
    requests, said = GET[fault]
    with OmnimessageHook() as hook:
        accepted = hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1))
    strike(fault, "status")
    with OmnimessageHook() as hook:
        if said is None:
            assert hook.get_delivery_report(accepted.omnimessage_id).outcome == "in_progress"
        else:
            with pytest.raises(OmnimessageError, match=said):
                hook.get_delivery_report(accepted.omnimessage_id)
    assert as_planned(f"P{requests}", requests_made(sandbox))
    assert sum(pauses) < 120, "no pause leads past the deadline"


@pytest.mark.parametrize("row", first(1, SENSOR), ids=lambda row: row.fault)
def test_sensor(dag, run_dag, sandbox, strike, row):
    sandbox.freeze()
    with OmnimessageHook() as hook:
        accepted = hook.send(TO, [sms("S3CRET")])
    sandbox.advance(60)
    OmnimessageDeliverySensor(
        task_id="wait",
        omnimessage_id=accepted.omnimessage_id,
        deferrable=True,
        poke_interval=0.05,
        timeout=0.5 if TIMED_OUT in row.said else 60,
        retries=1,
        retry_delay=timedelta(0),
    )
    strike(row.fault, "status", times=2)
    run = run_dag(dag)
    assert as_planned(f"P{row.requests}", requests_made(sandbox)), requests_made(sandbox)
    assert (run.tries["wait"], run.tasks["wait"]) == (row.tries, row.state), row.invariant
    assert re.search(row.said, run.log)
    assert sandbox.password not in run.log


#: For many ids, if the fault hits every request.
MANY_CANCELLED = [
    Row("slower than the timeout", "[DG]{2,99}", "scheduled", 2, "failed", "12 messages: 0 cancelled", "One budget"),
    Row("429", "D{2,40}", "scheduled", 2, "failed", "12 messages: 0 cancelled", "One budget for all, and one pause"),
    Row("wrong password", "D", "scheduled", 1, "failed", "check the connection's login", "One request is enough"),
]
MANY_AWAITED = [
    Row("slower than the timeout", "G{1,30}", "", 1, "failed", TIMED_OUT, "One budget for all"),
    Row("429", "G{1,3}", "", 1, "failed", f"{TIMED_OUT}.*rate limited by Messente", "One request for each pause"),
    Row("wrong password", "G", "", 1, "failed", "check the connection's login", "One request is enough"),
]


@pytest.fixture
def twelve(sandbox: Any) -> list[str]:
    with OmnimessageHook() as hook:
        return [hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1)).omnimessage_id for _ in range(12)]


@full_size
@pytest.mark.parametrize("row", MANY_CANCELLED, ids=lambda row: row.fault)
def test_cancel_of_many(dag, run_dag, sandbox, strike, monkeypatch, twelve, row):
    monkeypatch.setattr(cancelling, "SECONDS_PER_ID", 0.05)
    CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=twelve, retries=1, retry_delay=timedelta(0))
    monkeypatch.setitem(CONNECTIONS, "slower than the timeout", lambda *_: {"extra": {"timeout": 0.2, "deadline": 1}})
    monkeypatch.setitem(FAULTS, "slower than the timeout", {"fault": "slow", "seconds": 3})
    strike(row.fault, "cancel", times="always")
    run = run_dag(dag)
    assert as_planned(f"P{{12}}{row.requests}", requests_made(sandbox)), requests_made(sandbox)
    assert {message["state"] for message in sandbox.messages} == {row.exists}
    assert (run.tries["cancel"], run.tasks["cancel"]) == (row.tries, row.state), row.invariant
    assert row.said in run.log


@full_size
@pytest.mark.parametrize("row", MANY_AWAITED, ids=lambda row: row.fault)
def test_sensor_for_many(dag, run_dag, sandbox, strike, twelve, row):
    sandbox.advance(7200)
    OmnimessageDeliverySensor(
        task_id="wait", omnimessage_id=twelve, deferrable=True, poke_interval=0.05, timeout=0.5, retries=1
    )
    strike(row.fault, "status", times="always")
    run = run_dag(dag)
    assert as_planned(f"P{{12}}{row.requests}", requests_made(sandbox)), requests_made(sandbox)
    assert (run.tries["wait"], run.tasks["wait"]) == (row.tries, row.state), row.invariant
    assert re.search(row.said, run.log)


@pytest.mark.parametrize("fault", CHECK)
def test_credentials_check(sandbox, strike, pauses, fault):
    requests, said = CHECK[fault]
    strike(fault, "status")
    works, words = OmnimessageHook().test_connection()
    assert not works
    assert re.search(said, words)
    assert (requests_made(sandbox), pauses) == (requests, []), "the Test button makes one request and does not pause"


def test_each_repeat_is_one_line_with_call_attempt_reason_and_pause(sandbox, capfd):
    sandbox.add_fault("server_error", status=503, times=2)
    with OmnimessageHook() as hook, pytest.raises(OmnimessageError):
        hook.get_delivery_report("6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6")
    lines = [line for line in "".join(capfd.readouterr()).splitlines() if "repeating in" in line]
    assert len(lines) == 2
    for attempt, line in enumerate(lines, start=1):
        assert re.search(rf"delivery report: server error \(503.*\)\. Attempt {attempt}; .* in \d+\.\d s", line)
