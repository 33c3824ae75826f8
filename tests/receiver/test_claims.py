"""Of several processes that would do the same, one does it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from receivers import CONN_ID, RunningReceiver

from airflow_provider_omnimessage.alerts import Step
from airflow_provider_omnimessage.api.errors import AuthenticationError, LostResponseError
from airflow_provider_omnimessage.notifications import event_store, once
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.receiver.claim_state import ClaimState
from airflow_provider_omnimessage.receiver.claims import Claims
from airflow_provider_omnimessage.receiver.database import open_url
from airflow_provider_omnimessage.receiver.store import StoreUnavailableError
from airflow_provider_omnimessage.sandbox import Sandbox
from airflow_provider_omnimessage.triggers import turns

TO = "+37255555555"
#: Ways to send, by what the notifier is passed.
WAYS = [pytest.param({}, id="at once"), pytest.param({"dedup_key": "k"}, id="with a key")]
YOURS, HELD, DONE = ClaimState.YOURS, ClaimState.HELD, ClaimState.DONE


@pytest.fixture
def now() -> list[float]:
    return [1_800_000_000.0]


@pytest.fixture
def claims(database: str, now: list[float]) -> Claims:
    return Claims(open_url(database), lambda: now[0])


def test_one_of_many_that_ask_at_once_gets_it(claims: Claims) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda holder: claims.take(CONN_ID, "it", str(holder), 60), range(8)))
    assert sorted(found, key=str) == [HELD] * 7 + [YOURS]


def test_nobody_else_gets_it_until_its_time_is_over(claims: Claims, now: list[float]) -> None:
    assert claims.take(CONN_ID, "it", "one", 60) is YOURS
    now[0] += 59
    assert claims.take(CONN_ID, "it", "another", 60) is HELD
    assert claims.take(CONN_ID, "it", "one", 60) is YOURS, "and it lasts longer"
    now[0] += 59
    assert claims.take(CONN_ID, "it", "another", 60) is HELD
    now[0] += 1
    assert claims.take(CONN_ID, "it", "another", 60) is YOURS
    claims.give_back(CONN_ID, "it", "one", is_done=True)
    assert claims.take(CONN_ID, "it", "a third", 60) is HELD, "who has lost it cannot end it"


@pytest.mark.parametrize(("is_done", "found"), [(True, DONE), (False, YOURS)])
def test_what_is_given_back_is_done_or_somebody_elses(claims: Claims, is_done: bool, found: ClaimState) -> None:
    claims.take(CONN_ID, "it", "one", 60)
    claims.give_back(CONN_ID, "it", "one", is_done=is_done)
    assert claims.take(CONN_ID, "it", "another", 60) is found


def test_names_and_connections_have_claims_of_their_own_which_are_forgotten(claims: Claims, now: list[float]) -> None:
    for conn_id, name in ((CONN_ID, "it"), (CONN_ID, "that"), ("other", "it")):
        assert claims.take(conn_id, name, "one", 60) is YOURS
        claims.give_back(conn_id, name, "one", is_done=True)
    claims.forget(now[0] + 1)
    assert claims.take(CONN_ID, "it", "another", 60) is YOURS


def test_a_request_is_signed_and_checked(receiver: RunningReceiver) -> None:
    claim = {"name": "it", "holder": "one", "seconds": 60}
    assert receiver.claim(claim).body == {"state": "yours"}
    assert receiver.claim({**claim, "holder": "another"}).body == {"state": "held"}
    assert receiver.claim({"name": "it", "holder": "one", "is_done": True}).body == {"state": "given back"}
    assert receiver.claim({**claim, "holder": "another"}).body == {"state": "done"}
    assert receiver.claim(claim, password="wrong").status == 403
    assert receiver.claim(claim, conn_id="unknown").status == 403
    for wrong in (
        {}, [], "it", {"name": "it"}, {**claim, "seconds": 0}, {**claim, "seconds": 3601}, {**claim, "seconds": "a"},
        {**claim, "name": ""}, {**claim, "name": "x" * 65}, {**claim, "holder": "a b"},
    ):  # fmt: skip
        answer = receiver.claim(wrong)
        assert (answer.status, answer.body["error"].partition(":")[1]) == (400, ":"), wrong


class TestADeadlineInSeveralTriggerers:
    """Airflow starts an ``AsyncCallback`` in all of them."""

    @pytest.fixture(autouse=True)
    def _processes_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def run(key, work):
            await work()

        monkeypatch.setattr(once, "run_once", run)
        monkeypatch.setattr(turns, "ASK_EVERY", (0.05, 0.1))

    @pytest.fixture(autouse=True)
    def _variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keep Airflow's Variables in memory: all triggerers share them."""
        stored: dict[str, str] = {}

        def put(key: str, value: str, description: str) -> None:
            stored[key] = value

        monkeypatch.setattr(event_store, "Variable", SimpleNamespace(get=stored.get, set=put))
        monkeypatch.setattr(event_store, "SETTLING", (0.01, 0.02))
        monkeypatch.setattr(event_store, "LATER", (0.01,))

    @staticmethod
    def notify(count: int = 2, *, to: object = TO, **more: Any) -> list[object]:
        context = {"deadline": {"id": "d1"}, "dag_run": {"dag_id": "report"}}

        async def notify() -> None:
            await OmnimessageNotifier(to=to, context=context, **more)

        async def all_at_once() -> list[object]:
            return await asyncio.gather(*(notify() for _ in range(count)), return_exceptions=True)

        return asyncio.run(all_at_once())

    def test_one_sends_and_the_others_wait_for_it(self, pushing_sandbox: Sandbox) -> None:
        pushing_sandbox.add_fault("slow", call="send", seconds=0.5, processed=True, times="always")
        assert self.notify(3) == [None] * 3
        assert self.notify() == [None] * 2, "started again later"
        assert len(pushing_sandbox.messages) == 1

    @pytest.mark.parametrize("more", WAYS)
    def test_what_one_could_not_send_another_sends(self, pushing_sandbox: Sandbox, more: dict[str, Any]) -> None:
        pushing_sandbox.add_fault("unauthorized", call="send", times=1)
        assert {type(outcome) for outcome in self.notify(**more)} == {AuthenticationError, type(None)}
        assert [message["to"] for message in pushing_sandbox.messages if not message["time_to_send"]] == [TO]

    @pytest.mark.parametrize("more", WAYS)
    def test_what_one_may_have_sent_is_not_sent_again(self, pushing_sandbox: Sandbox, more: dict[str, Any]) -> None:
        pushing_sandbox.add_fault("lost_answer", call="send", times=1)
        assert {type(outcome) for outcome in self.notify(**more)} == {LostResponseError, type(None)}
        assert [message["to"] for message in pushing_sandbox.messages if not message["time_to_send"]] == [TO]

    @pytest.mark.parametrize("more", WAYS)
    def test_what_one_sent_to_some_is_not_sent_again(self, pushing_sandbox: Sandbox, more: dict[str, Any]) -> None:
        assert None in self.notify(to=[TO, "+37255550005"], **more), "Messente rejects the second number"
        assert [message["to"] for message in pushing_sandbox.messages if not message["time_to_send"]] == [TO]

    def test_an_event_that_reached_some_is_over_for_its_key_too(self, pushing_sandbox: Sandbox) -> None:
        self.notify(1, to=[TO, "+37255550005"], dedup_key="k")
        self.notify(1, to=[TO], dedup_key="k")
        assert len([message for message in pushing_sandbox.messages if not message["time_to_send"]]) == 1, "counted"

    def test_steps_that_are_scheduled_do_not_replace_the_message(self, pushing_sandbox: Sandbox) -> None:
        pushing_sandbox.add_fault("unauthorized", call="send", times=1)
        assert None in self.notify(dedup_key="k", escalate=[Step(after=timedelta(minutes=15))])
        assert [bool(message["time_to_send"]) for message in pushing_sandbox.messages] == [True, False]

    @pytest.mark.parametrize("is_served", [False, True], ids=["not served", "served, but without a response"])
    @pytest.mark.parametrize("number", range(1, 7))
    def test_a_request_to_a_receiver_that_restarts_doubles_nothing(
        self,
        pushing_sandbox: Sandbox,
        receiver: RunningReceiver,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        is_served: bool,
    ) -> None:
        monkeypatch.setattr(turns, "MARGIN", 5 - 120)  # a claim of 5 s
        pushing_sandbox.add_fault("slow", call="send", seconds=0.3, processed=True, times=1)
        requests: list[object] = []

        def interrupted(serve: Callable[..., object]) -> Callable[..., object]:
            def interrupt(*args: Any, **kwargs: Any) -> object:
                requests.append(args)
                fails = len(requests) == number
                response = serve(*args, **kwargs) if is_served or not fails else None
                if fails:
                    raise StoreUnavailableError("restarting")
                return response

            return interrupt

        claims = receiver.receiver.claims
        monkeypatch.setattr(claims, "take", interrupted(claims.take))
        monkeypatch.setattr(claims, "give_back", interrupted(claims.give_back))
        assert self.notify() == [None, None]
        assert len(pushing_sandbox.messages) == 1

    @pytest.mark.parametrize("is_served", [False, True], ids=["not served", "served, but without a response"])
    def test_the_end_of_a_claim_is_reported_after_a_restart(
        self, pushing_sandbox: Sandbox, receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch, is_served: bool
    ) -> None:
        claims, give_back = receiver.receiver.claims, receiver.receiver.claims.give_back
        failures = [1, 1]

        def interrupted(*args: Any, **kwargs: Any) -> None:
            if is_served or not failures:
                give_back(*args, **kwargs)
            if failures:
                failures.pop()
                raise StoreUnavailableError("restarting")

        monkeypatch.setattr(claims, "give_back", interrupted)
        assert self.notify(1) == [None]
        assert self.notify(1) == [None], "its claim is done"
        assert len(pushing_sandbox.messages) == 1

    def test_if_the_one_that_sends_dies_another_takes_over(
        self, pushing_sandbox: Sandbox, receiver: RunningReceiver
    ) -> None:
        key = f"d1 {OmnimessageNotifier(to=TO)._arguments}"
        name = hashlib.sha256(key.encode()).hexdigest()
        assert receiver.claim({"name": name, "holder": "dead", "seconds": 2}).body == {"state": "yours"}
        assert self.notify() == [None, None]
        assert len(pushing_sandbox.messages) == 1
        assert receiver.claim({"name": name, "holder": "dead", "seconds": 2}).body == {"state": "done"}

    @pytest.mark.parametrize("what", ["is stopped", "is older"])
    def test_two_messages_are_better_than_none_if_the_receiver(
        self, pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
    ) -> None:
        monkeypatch.setattr(turns, "PATIENCE", 0.5 if what == "is stopped" else 600)
        # a sandbox has no such route either
        url = "http://127.0.0.1:9" if what == "is stopped" else pushing_sandbox.url
        connection = {**pushing_sandbox.connection, "extra": {"receiver_url": url}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
        assert self.notify() == [None, None]
        assert len(pushing_sandbox.messages) == 2
        warning = "Another triggerer may send this notification, too: http://127.0.0.1:"
        assert capsys.readouterr().out.count(warning) == 2

    def test_a_receiver_that_no_session_can_be_opened_to_costs_no_message(
        self, pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fails(*args: object) -> None:
            raise OSError("no such CA bundle")

        monkeypatch.setattr(turns.ReceiverClient, "open", fails)
        assert self.notify() == [None, None]
        assert len(pushing_sandbox.messages) == 2

    def test_a_connection_with_a_long_deadline_may_claim(
        self, pushing_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connection = json.loads(os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"])
        connection["extra"]["deadline"] = 3600
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
        assert self.notify() == [None, None]
        assert len(pushing_sandbox.messages) == 1
