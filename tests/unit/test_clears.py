"""Single and bulk sends in every order of deploys, crashes, retries and clears: nobody gets two messages unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from full_size import IS_FULL_SIZE
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_omnimessage._compat import AirflowFailException
from airflow_provider_omnimessage.api.cancel_result import Cancellation, CancelResult
from airflow_provider_omnimessage.api.delivery import ChannelStatus, DeliveryReport
from airflow_provider_omnimessage.api.errors import LostResponseError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.responses import Accepted
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator
from airflow_provider_omnimessage.tasks import posting

GUARANTEES = ["at_most_once", "at_most_once", "at_least_once"]
NEW_YEAR = "2099-01-01T09:00Z"
PEOPLE = ["+37255555551", "+37255555552", "+37255555553"]

#: How a try ends: what happens to its POST with this index, or after the operator has returned.
ENDS = [
    "as it should",
    "dies at the start",
    "dies before 0",
    "dies after 0",
    "dies before 1",
    "dies after 1",
    "loses the response 0",
    "loses the request 0",
    "loses the response 1",
    "dies at the end",
    "is cleared while it runs",
]


class Died(BaseException):
    """The worker is killed: nothing that the operator does after this has an effect."""


@dataclass
class Message:
    """
    A message that Messente has accepted.

    :param excused_after: the number of clears after which another message is what somebody asked for.
    """

    omnimessage_id: str
    to: str
    text: str
    time_to_send: datetime
    state: str = "scheduled"
    excused_after: int | None = None


class Worker:
    """The memory of the task, and Messente as seen from a worker that may die."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.messages: list[Message] = []
        self.clears = 0
        self.at_most_once = True
        self.end = ENDS[0]
        self.posts = 0
        self.is_dead = False

    def begin(self, end: str) -> None:
        self.end, self.posts, self.is_dead = end, 0, False

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any, **_: Any) -> None:
        self._require_life()
        self.values[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self._require_life()
        self.values.pop(key, None)

    def post(self, bodies: list[dict[str, Any]]) -> list[Accepted]:
        self._require_life()
        index, self.posts = self.posts, self.posts + 1
        self._die_at(f"dies before {index}")
        if self.end == f"loses the request {index}":
            raise LostResponseError("send: the connection broke")
        accepted = [self._accept(body) for body in bodies]
        self._die_at(f"dies after {index}")
        if self.end == f"loses the response {index}":
            raise LostResponseError("send: the connection broke")
        return accepted

    def cancel(self, omnimessage_id: str, time_to_send: datetime | None) -> Cancellation:
        self._require_life()
        message = self.find(omnimessage_id)
        assert time_to_send == message.time_to_send, "what a 404 means depends on the time"
        if message.state == "sent":
            return Cancellation(CancelResult.ALREADY_SENT)
        was_cancelled = message.state == "cancelled"
        message.state = "cancelled"
        return Cancellation(CancelResult.ALREADY_CANCELLED if was_cancelled else CancelResult.CANCELLED)

    def report(self, omnimessage_id: str) -> DeliveryReport:
        self._require_life()
        message = self.find(omnimessage_id)
        status = {"scheduled": None, "sent": "DELIVRD", "cancelled": "DELETED"}[message.state]
        return DeliveryReport(omnimessage_id, message.to, (ChannelStatus("sms", status),))

    def find(self, omnimessage_id: str) -> Message:
        (found,) = [message for message in self.messages if message.omnimessage_id == omnimessage_id]
        return found

    def live(self, to: str) -> list[Message]:
        return [message for message in self.messages if message.to == to and message.state != "cancelled"]

    def excuse(self, *, all_of_them: bool) -> None:
        """Note which messages somebody knows of by now: a second one needs another clear."""
        known = json.dumps(self.values)
        for message in self.messages:
            if message.excused_after is None and (all_of_them or message.omnimessage_id in known):
                message.excused_after = self.clears

    def _accept(self, body: dict[str, Any]) -> Accepted:
        to = body["to"]
        for earlier in self.live(to):
            is_asked_for = earlier.excused_after is not None and self.clears > earlier.excused_after
            assert is_asked_for or not self.at_most_once, f"{to} gets a second message"
        time_to_send = datetime.fromisoformat(body["time_to_send"])
        message = Message(f"m{len(self.messages)}", to, body["messages"][0]["text"], time_to_send)
        self.messages.append(message)
        return Accepted(message.omnimessage_id, to, {"sms": "x"})

    def _die_at(self, point: str) -> None:
        if self.end == point:
            self.is_dead = True
            raise Died

    def _require_life(self) -> None:
        if self.is_dead:
            raise Died


@dataclass(frozen=True)
class Step:
    """What happens to a task: some of these events, in this order, and then a try."""

    deploys_retries: int | None
    deploys_another_text: bool
    messente_sends: bool
    clears_another_task: bool
    clears: bool
    end: str


def step(end: str, **events: Any) -> Step:
    quiet = {
        "deploys_retries": None,
        "deploys_another_text": False,
        "messente_sends": False,
        "clears_another_task": False,
        "clears": False,
    }
    return Step(**{**quiet, **events}, end=end)


A_RETRY_THAT_LOOKS_LIKE_A_CLEAR = [
    step("dies at the end"),
    step("as it should", messente_sends=True, clears_another_task=True),
]
A_DOUBT_THAT_NOBODY_WAS_TOLD_OF = [
    step("dies after 0"),
    step("dies at the end", clears=True),
    step("as it should"),
]
A_CLEAR_WHILE_IT_RUNS = [
    step("is cleared while it runs"),
    step("as it should", messente_sends=True),
]
A_CLEAR_THAT_LOOKS_LIKE_A_RETRY = [
    step("as it should"),
    step("as it should", deploys_retries=1, deploys_another_text=True, messente_sends=True),
]
STEPS = st.lists(
    st.builds(
        Step,
        deploys_retries=st.none() | st.integers(0, 3),
        deploys_another_text=st.booleans(),
        messente_sends=st.booleans(),
        clears_another_task=st.booleans(),
        clears=st.booleans(),
        end=st.sampled_from(ENDS),
    ),
    max_size=6,
)


class TaskInstance:
    """
    One task instance, with the numbers that Airflow 3.3 keeps.

    :param make_operator: returns the operator, for a text of its message and a guarantee.
    """

    def __init__(self, make_operator: Callable[[str, str], Any], recipients: list[str], worker: Worker) -> None:
        self.worker = worker
        self.state = "none"
        self._make_operator = make_operator
        self._recipients = recipients

    def deploy(self, retries: int, guarantee: str) -> None:
        self.retries = self.max_tries = retries
        self.guarantee = guarantee
        self.worker.at_most_once = guarantee == "at_most_once"
        self.try_number = self.clear_number = 0
        self.text = "first"

    def take(self, step: Step) -> None:
        if step.deploys_retries is not None:
            self.retries = step.deploys_retries
        if step.deploys_another_text:
            self.text = f"{self.text} and another"
        if step.messente_sends:
            self._let_messente_send()
        if step.clears_another_task:
            self.clear_number += 1
        if self.state in ("success", "failed") or (step.clears and self.state == "up_for_retry"):
            self.clear()
        self.run(step.end)

    def clear(self) -> None:
        self.max_tries = self.try_number + self.retries
        self.clear_number += 1
        self.worker.clears += 1
        self.state = "none"

    def run(self, end: str) -> None:
        self.try_number += 1
        if end == "dies at the start":
            self._end("up_for_retry")
            return
        worker = self.worker
        worker.begin(end)
        state = "success"
        try:
            self._make_operator(self.text, self.guarantee).execute(self._context())
        except AirflowFailException:
            state = "failed"
        except (Died, LostResponseError):
            state = "up_for_retry"
        if worker.is_dead:
            state = "up_for_retry"
        is_reported = state != "up_for_retry"
        if state == "success":
            assert all(worker.live(to) for to in self._recipients), "a success, but somebody gets nothing"
        self._end("up_for_retry" if end == "dies at the end" else state)
        if end == "is cleared while it runs":
            self.state = "up_for_retry"  # Airflow retries it even after the last try
        worker.excuse(all_of_them=is_reported)
        if end == "is cleared while it runs":
            self.clear_number += 1
            worker.clears += 1

    def clear_until_it_succeeds(self) -> None:
        """Clear the task at most three times until it succeeds, and then at most twice to replace its message."""
        self._run_until_it_ends()
        for _ in range(3):
            if self.state != "success":
                self._clear_and_run()
        assert self.state == "success", "it fails at every clear"
        self.text = f"{self.text} and one more"
        self._clear_and_run()
        if self.state != "success":
            self._clear_and_run()
        assert self.state == "success"
        for to in self._recipients:
            assert self.worker.live(to)[-1].text == self.text, "a clear did not replace the message"

    def _context(self) -> dict[str, Any]:
        return {
            "ti": SimpleNamespace(
                max_tries=self.max_tries,
                try_number=self.try_number,
                dag_id="d",
                task_id="t",
                xcom_push=lambda key, value: None,
            ),
            "dag_run": SimpleNamespace(clear_number=self.clear_number),
            "task_state_store": self.worker,
        }

    def _let_messente_send(self) -> None:
        for message in self.worker.messages:
            if message.state == "scheduled":
                message.state = "sent"

    def _end(self, state: str) -> None:
        may_retry = self.max_tries != 0 and self.try_number <= self.max_tries
        self.state = "failed" if state == "up_for_retry" and not may_retry else state

    def _run_until_it_ends(self) -> None:
        while self.state in ("none", "up_for_retry"):
            self.run("as it should")

    def _clear_and_run(self) -> None:
        self.clear()
        self._run_until_it_ends()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Worker]:
    """Return a function that connects the hook to a new worker."""

    def connect() -> Worker:
        new = Worker()
        monkeypatch.setattr(OmnimessageHook, "post", lambda hook, body: new.post([body])[0])
        monkeypatch.setattr(
            OmnimessageHook, "post_bulk", lambda hook, bodies: new.post([json.loads(body) for body in bodies()])
        )
        monkeypatch.setattr(
            OmnimessageHook, "try_to_cancel", lambda hook, id_, time_to_send=None: new.cancel(id_, time_to_send)
        )
        monkeypatch.setattr(OmnimessageHook, "get_delivery_report", lambda hook, id_: new.report(id_))
        return new

    monkeypatch.setattr(posting, "PATIENCE", 0.0)
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", "omnimessage://user:password@127.0.0.1:9")
    return connect


def make_single(text: str, guarantee: Any) -> ScheduleOmnimessageOperator:
    return ScheduleOmnimessageOperator(
        task_id="t", to=PEOPLE[0], messages=[sms(text)], time_to_send=NEW_YEAR, delivery_guarantee=guarantee
    )


def make_bulk(text: str, guarantee: Any) -> ScheduleBulkOmnimessageOperator:
    return ScheduleBulkOmnimessageOperator(
        task_id="t",
        recipients=[{"to": to} for to in PEOPLE],
        messages=[sms(text)],
        time_to_send=NEW_YEAR,
        batch_size=2,
        delivery_guarantee=guarantee,
    )


@pytest.mark.parametrize(
    ("make", "recipients"), [(make_single, PEOPLE[:1]), (make_bulk, PEOPLE)], ids=["single", "bulk"]
)
@settings(
    max_examples=100 if IS_FULL_SIZE else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(retries=2, guarantee="at_most_once", steps=A_RETRY_THAT_LOOKS_LIKE_A_CLEAR)
@example(retries=2, guarantee="at_most_once", steps=A_CLEAR_THAT_LOOKS_LIKE_A_RETRY)
@example(retries=2, guarantee="at_most_once", steps=A_CLEAR_WHILE_IT_RUNS)
@example(retries=3, guarantee="at_most_once", steps=A_DOUBT_THAT_NOBODY_WAS_TOLD_OF)
@given(retries=st.integers(0, 3), guarantee=st.sampled_from(GUARANTEES), steps=STEPS)
def test_no_order_of_deploys_crashes_retries_and_clears_breaks_the_guarantee(
    worker, make, recipients, retries, guarantee, steps
):
    task = TaskInstance(make, recipients, worker())
    task.deploy(retries, guarantee)
    for step in steps:
        task.take(step)
    task.clear_until_it_succeeds()
    stored = json.dumps(task.worker.values)
    assert "first" not in stored
    assert PEOPLE[0] not in stored
