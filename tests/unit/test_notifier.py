"""The default text of each kind of event, and how long texts are cut."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from airflow_provider_omnimessage.api.errors import (
    InvalidInputError,
    LostResponseError,
    RateLimitedError,
    RejectedError,
)
from airflow_provider_omnimessage.api.messages import rcs, sms, viber, whatsapp
from airflow_provider_omnimessage.hooks import requests_transport
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.notifications.texts import cut_message, default_text

TO = "+37255555555"
DAG = SimpleNamespace(dag_id="report")


def of_a_task(state, **more):
    task = more.pop("task", SimpleNamespace())
    ti = SimpleNamespace(task_id="load", state=state, try_number=2, max_tries=more.pop("max_tries", None))
    return {"dag": DAG, "run_id": "run_1", "ti": ti, "task": task, **more}


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (of_a_task("success"), "report.load (run_1) succeeded"),
        (of_a_task("skipped"), "report.load (run_1) was skipped"),
        (of_a_task("running"), "report.load (run_1) has started"),
        (
            of_a_task("failed", exception=ValueError("no such table\nand more")),
            "report.load (run_1) failed: ValueError: no such table",
        ),
        (of_a_task("failed", exception="killed"), "report.load (run_1) failed: killed"),
        # Airflow passes no state if the task's process was killed
        (of_a_task(None), "report.load (run_1) failed"),
        (of_a_task(None, max_tries=1), "report.load (run_1) failed"),
        (of_a_task(None, max_tries=2), "report.load (run_1) failed and will be retried, after try 2"),
        (
            of_a_task("up_for_retry", exception=ValueError()),
            "report.load (run_1) failed and will be retried, after try 2: ValueError",
        ),
        (
            of_a_task("running", task=SimpleNamespace(subject="Deploy?", options=["Yes"])),
            "report.load (run_1) is waiting for an answer: Deploy?",
        ),
        ({"dag": DAG, "run_id": "run_1", "reason": "success"}, "report (run_1) succeeded"),
        ({"dag": DAG, "run_id": "run_1", "reason": "task_failure"}, "report (run_1) failed: task failure"),
        (of_a_task("failed", reason="all_tasks_deadlocked"), "report (run_1) failed: all tasks deadlocked"),
        (
            {
                "dag_run": {"dag_id": "report", "dag_run_id": "run_1"},
                "deadline": {"deadline_time": "2026-11-23 09:00:00+00:00"},
            },
            "report (run_1) missed its deadline of 2026-11-23 09:00:00+00:00",
        ),
        ({}, "Airflow failed"),
    ],
)
def test_the_default_text_says_what_happened_where_and_why(context, said):
    assert default_text(context) == said


@pytest.mark.parametrize(
    ("message", "length"),
    [
        (sms("a" * 5000), 306),
        ({"channel": "viber", "text": "a" * 5000}, 1000),
        ({"channel": "rcs", "sender": "x", "text": "a" * 5000}, 3072),
    ],
)
def test_texts_that_do_not_fit_are_cut(message, length):
    assert len(cut_message(message, 2)["text"]) == length


def test_what_fits_or_holds_no_text_is_left_alone():
    for message in (
        sms("a"),
        viber("a", ttl=60),
        rcs("a", sender="x"),
        whatsapp(image={"id": "1"}),
        whatsapp("a"),
        {"channel": "fax", "text": "a"},
        "anything",
    ):
        assert cut_message(message, 1) == message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"text": "a", "messages": [sms("a")]}, "text: found both"),
        ({"max_parts": 0}, "max_parts"),
        ({"max_parts": "2"}, "max_parts"),
        ({"messages": [{"channel": "sms", "tll": 1}]}, "no such field"),
    ],
)
def test_what_is_wrong_is_named_while_the_dag_is_parsed(settings, said):
    with pytest.raises(InvalidInputError, match=said):
        OmnimessageNotifier(to=TO, **settings)


class TestNotify:
    def test_one_notifier_serves_many_events(self, sandbox):
        notifier = OmnimessageNotifier(to=["+372 5555 5555", "+37255555556"], text="{{ run_id }}", priority="high")
        notifier({"run_id": "run_1"})
        notifier({"run_id": "run_2"})
        bodies = [message["body"] for message in sandbox.messages]
        assert [(body["to"], body["messages"][0]["text"]) for body in bodies] == [
            (TO, "run_1"),
            ("+37255555556", "run_1"),
            (TO, "run_2"),
            ("+37255555556", "run_2"),
        ]
        assert {body["priority"] for body in bodies} == {"high"}

    def test_it_schedules_and_a_time_in_the_past_is_sent_now(self, sandbox):
        OmnimessageNotifier(to=TO, text="a", time_to_send="{{ '2099-01-01T09:00' }}", timezone="Europe/Tallinn")({})
        OmnimessageNotifier(to=TO, text="a", time_to_send="2020-01-01T09:00")({})
        later, now = sandbox.messages
        assert later["body"]["time_to_send"] == "2099-01-01T07:00:00+00:00"
        assert "time_to_send" not in now["body"]

    def test_a_template_that_does_not_fit_the_event_gives_way_to_the_default(self, sandbox):
        OmnimessageNotifier(to=TO, text="{{ ti.task_id.upper() }}")({"dag": DAG, "run_id": "r", "reason": "success"})
        assert sandbox.messages[0]["body"]["messages"][0]["text"] == "report (r) succeeded"

    def test_a_long_text_is_cut_to_two_parts(self, sandbox):
        OmnimessageNotifier(to=TO, text="{{ 'õ' * 1000 }} the end")({})
        text = sandbox.messages[0]["body"]["messages"][0]["text"]
        assert len(text) == 134
        assert text.endswith("õ the end")

    @pytest.mark.parametrize("fault", ["unauthorized", "server_error", "cut", "rate_limited"])
    def test_its_own_failure_stops_nothing_and_is_logged(self, sandbox, fault, caplog, capsys):
        sandbox.add_fault(fault, times="always")
        OmnimessageNotifier(to=TO, text="a")({})
        assert "No notification was sent; the task goes on" in caplog.text + capsys.readouterr().out

    def test_one_recipient_of_many_does_not_cost_the_others_their_message(self, sandbox):
        OmnimessageNotifier(to=["{{ 'nobody' }}", TO], text="a")({})
        assert [message["to"] for message in sandbox.messages] == [TO]

    def test_a_sync_callback_that_may_not_read_the_connection_names_the_ways_out(self, monkeypatch, caplog, capsys):
        from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

        def refuse(*_):
            raise AirflowSecretsBackendAccessDenied("Access denied by Execution API")

        monkeypatch.setattr(OmnimessageHook, "get_connection", refuse)
        way_out = "set AIRFLOW_CONN_OUR_ACCOUNT on the workers, keep it in a secrets backend, or use AsyncCallback"
        with pytest.raises(InvalidInputError, match=way_out):
            OmnimessageNotifier(to=TO, omnimessage_conn_id="our_account")({"deadline": {}})
        assert way_out in caplog.text + capsys.readouterr().out

    def test_a_deadlines_callback_fails_where_it_cannot_notify(self, sandbox):
        sandbox.add_fault("unauthorized")
        with pytest.raises(Exception, match="rejected the credentials"):
            OmnimessageNotifier(to=TO)({"deadline": {}})


class TestInTheTriggerer:
    """In the triggerer, Airflow awaits the notifier, and it must not block the event loop."""

    @pytest.fixture(autouse=True)
    def _nothing_blocks(self, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("this blocks the event loop")

        def take_from_a_thread_only(conn_id):
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return look_up(conn_id)

        look_up = OmnimessageHook.get_connection
        monkeypatch.setattr(requests_transport, "RequestsTransport", refuse)
        monkeypatch.setattr(OmnimessageHook, "get_connection", take_from_a_thread_only)
        monkeypatch.setattr("random.random", lambda: 0.0)

    @staticmethod
    def awaited(**settings):
        async def in_the_triggerer():
            await OmnimessageNotifier(
                **{"to": TO, "context": {"deadline": {}, "dag_run": {"dag_id": "report"}}, **settings}
            )

        asyncio.run(in_the_triggerer())

    def test_it_can_be_awaited(self, sandbox):
        self.awaited()
        assert sandbox.messages[0]["body"]["messages"][0]["text"] == "report missed its deadline"

    def test_a_deadlines_callback_that_is_cancelled_and_started_again_sends_one_message(self, sandbox):
        """Several triggerers take a callback from each other while it runs; each cancels it, and starts it again."""
        sandbox.add_fault("slow", call="send", seconds=0.5, processed=True)

        async def taken_away_and_back():
            def start():
                return asyncio.ensure_future(
                    as_awaitable(OmnimessageNotifier(to=TO, context={"deadline": {"id": "d1"}}))
                )

            async def as_awaitable(notifier):
                await notifier

            first = start()
            while not sandbox.requests:
                await asyncio.sleep(0.01)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await start()
            await start()

        asyncio.run(taken_away_and_back())
        assert len(sandbox.messages) == 1

    def test_each_deadline_has_a_message_of_its_own(self, sandbox):
        self.awaited(context={"deadline": {"id": "d2"}})
        self.awaited(context={"deadline": {"id": "d3"}})
        self.awaited(context={"deadline": {"id": "d3"}}, to="+37255555556")
        assert [message["to"] for message in sandbox.messages] == [TO, TO, "+37255555556"]

    def test_a_failed_notification_of_a_deadline_fails_each_start_and_is_not_repeated(self, sandbox):
        sandbox.add_fault("lost_answer")
        for _ in range(2):
            with pytest.raises(LostResponseError):
                self.awaited(context={"deadline": {"id": "d4"}})
        assert len(sandbox.messages) == 1

    def test_others_on_the_loop_go_on_while_messente_is_slow(self, sandbox):
        sandbox.add_fault("slow", seconds=0.5)
        turns = []

        async def both():
            async def other():
                while True:
                    turns.append("turn")
                    await asyncio.sleep(0.01)

            beside = asyncio.create_task(other())
            await OmnimessageNotifier(to=TO, context={"deadline": {}})
            beside.cancel()

        asyncio.run(both())
        assert len(turns) > 5
        assert len(sandbox.messages) == 1

    def test_a_request_that_certainly_was_not_processed_is_repeated(self, sandbox):
        sandbox.add_fault("rate_limited")
        self.awaited()
        assert [request["status"] for request in sandbox.requests] == [429, 201]

    def test_a_request_that_may_have_been_accepted_is_not_repeated(self, sandbox):
        sandbox.add_fault("lost_answer")
        with pytest.raises(LostResponseError):
            self.awaited()
        assert len(sandbox.messages) == 1

    def test_a_pause_past_the_deadline_is_not_begun(self, sandbox):
        sandbox.add_fault("rate_limited", retry_after=500)
        with pytest.raises(RateLimitedError):
            self.awaited()
        assert len(sandbox.requests) == 1

    def test_one_recipient_of_many_does_not_cost_the_others_their_message(self, sandbox):
        with pytest.raises(InvalidInputError):
            self.awaited(to=["nobody", TO, "+37255555556"])
        assert sorted(message["to"] for message in sandbox.messages) == [TO, "+37255555556"]

    def test_a_rejected_recipient_does_not_cost_the_others_theirs(self, sandbox, caplog, capsys):
        with pytest.raises(RejectedError):
            self.awaited(to=["+37255550005", TO])
        said = caplog.text + capsys.readouterr().out
        assert "+37255•••05 was not notified" in said
        assert "Sent to +37255•••55" in said
        assert [message["to"] for message in sandbox.messages] == [TO]

    def test_the_time_is_kept_and_a_long_text_is_cut(self, sandbox):
        self.awaited(text="a" * 5000, time_to_send="2099-01-01T09:00")
        body = sandbox.messages[0]["body"]
        assert (body["time_to_send"], len(body["messages"][0]["text"])) == ("2099-01-01T09:00:00+00:00", 306)

    def test_outside_of_deadlines_its_own_failure_stops_nothing(self, sandbox, caplog, capsys):
        sandbox.add_fault("unauthorized")
        self.awaited(context={"run_id": "run_1"})
        assert "No notification was sent; the task goes on" in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"to": "37255555555"}, "to: "),
        ({"to": [TO, "ann"]}, "to[1]"),
        ({"to": ""}, "to: is empty"),
        ({"timezone": "Europe/Talin"}, "timezone: 'Europe/Talin'"),
        ({"priority": "urgent"}, "priority: 'urgent'"),
        ({"time_to_send": "9:00"}, "time_to_send: "),
    ],
)
def test_wrong_constants_are_errors_while_the_dag_is_parsed(arguments, named):
    with pytest.raises(InvalidInputError) as error:
        OmnimessageNotifier(**{"to": TO, **arguments})
    assert named in str(error.value)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("exception", "text"),
    [
        (Unprintable(), "report.load (run_1) failed: Unprintable"),
        (ValueError("half \ud83d a pair"), "report.load (run_1) failed: ValueError: half \ufffd a pair"),
    ],
)
def test_any_exception_fits_in_an_sms(exception, text):
    assert default_text(of_a_task("failed", exception=exception)) == text


def test_secrets_that_airflow_knows_are_masked():
    from airflow.sdk.log import mask_secret

    mask_secret("hunter2-hunter2")
    text = default_text(of_a_task("failed", exception=ValueError("cannot log in with hunter2-hunter2")))
    assert text == "report.load (run_1) failed: ValueError: cannot log in with ***"
    (message,) = [cut_message(sms("log in failed: cannot log in with hunter2-hunter2"), 2)]
    assert message["text"] == "log in failed: cannot log in with ***"
