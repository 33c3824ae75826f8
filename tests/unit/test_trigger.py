"""The trigger and the poller that all triggers share, against the sandbox over HTTP."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from full_size import first, full_size
from triggering import CONNECTION, a_trigger, again, fire, fired, in_triggerer, now, status_requests

from airflow_provider_omnimessage.hooks import lookup
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.triggers import omnimessage as triggers
from airflow_provider_omnimessage.triggers import polling
from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger
from airflow_provider_omnimessage.triggers.polling import IN_FLIGHT

pytestmark = pytest.mark.usefixtures("quick_confirmation")


class TestTheTrigger:
    def test_it_fires_with_the_report(self, delivered):
        payload = fired(a_trigger(delivered))
        assert payload["ending"] == "fulfilled"
        (report,) = payload["reports"]
        assert (report["omnimessage_id"], report["delivered_by"]) == (delivered, "viber")

    def test_it_fires_with_the_carriers_reason(self, send, sandbox):
        id_ = send("+37255550001")
        sandbox.advance(10)
        payload = fired(a_trigger(id_))
        assert payload["ending"] == "failed"
        assert "viber: UNDELIV (Delivery failure); sms: UNDELIV (Delivery failure)" in payload["reason"]
        assert len(status_requests(sandbox)) == 2, "a failure takes a second look"

    def test_it_fires_when_the_message_is_cancelled(self, send):
        id_ = send(time_to_send=timedelta(hours=1))
        OmnimessageHook().cancel(id_)
        assert fired(a_trigger(id_))["ending"] == "cancelled"

    def test_nothing_is_polled_before_the_time_even_if_the_deadline_comes_first(self, send, sandbox):
        id_ = send(time_to_send=timedelta(hours=1))
        payload = fired(a_trigger(id_, time_to_send=(now() + timedelta(hours=1)).isoformat(), seconds=0.1))
        assert payload["ending"] == "timed_out"
        assert "not polled before" in payload["reason"]
        assert status_requests(sandbox) == []

    def test_the_deadline_is_absolute_and_has_a_last_poll(self, delivered, sandbox):
        assert fired(a_trigger(delivered, poke_interval=3600, seconds=-5))["ending"] == "fulfilled"
        assert len(status_requests(sandbox)) == 1

    def test_a_timeout_reports_the_state_of_each_message(self, send, sandbox):
        id_ = send("+37255550004")
        sandbox.advance(10)
        payload = fired(a_trigger(id_, seconds=0.3, limit="the timeout of 0:00:01"))
        assert payload["reason"] == f"Not delivered within the timeout of 0:00:01: {id_}: viber: ACCEPTD"

    def test_any_of_many(self, send, sandbox):
        stuck, good = send("+37255550004"), send()
        sandbox.advance(10)
        assert fired(a_trigger(stuck, good, require="any"))["ending"] == "fulfilled"

    @pytest.mark.parametrize("fault", first(2, ["server_error", "cut", "lost_answer", "broken_json", "html"]))
    def test_a_transient_error_does_not_end_the_wait(self, delivered, sandbox, fault):
        sandbox.add_fault(fault, call="status", times=3)
        assert fired(a_trigger(delivered))["ending"] == "fulfilled"

    def test_a_wrong_connection_is_reported(self, sandbox, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", '{"conn_type": "omnimessage"}')
        payload = fired(a_trigger("m-1"))
        assert payload["ending"] == "error"
        assert "connection 'omnimessage_default', login" in payload["reason"]

    def test_a_success_ends_the_task_at_once_in_the_triggerer(self, delivered, pushed, monkeypatch):
        monkeypatch.setattr(triggers, "SHORTEST_ABSENCE", 3600.0)

        async def event(**settings):
            return await asyncio.wait_for(anext(in_triggerer(a_trigger(delivered, **settings)).run()), 30)

        ended = asyncio.run(event(ends_task=True, one=True))
        assert isinstance(ended, TaskSuccessEvent)
        assert pushed[0]["value"]["omnimessage_id"] == delivered
        assert {**pushed[0], "value": None} == {
            "key": "return_value", "value": None, "dag_id": "dag", "task_id": "wait", "run_id": "run", "map_index": -1,
        }  # fmt: skip
        assert ended.xcoms is None, "Airflow would write it as JSON within JSON"
        asyncio.run(event(ends_task=True))
        assert isinstance(pushed[1]["value"], list)
        monkeypatch.setattr(triggers, "SHORTEST_ABSENCE", 0.0)
        assert type(asyncio.run(event())) is TriggerEvent
        assert len(pushed) == 2

    def test_a_worker_ends_it_if_the_xcom_cannot_be_pushed(self, delivered, monkeypatch):
        from airflow.sdk.execution_time.xcom import XCom

        def no_supervisor(**kwargs):
            raise ConnectionError("gone")

        monkeypatch.setattr(XCom, "set", no_supervisor)
        monkeypatch.setattr(triggers, "SHORTEST_ABSENCE", 0.0)

        async def event():
            return await anext(in_triggerer(a_trigger(delivered, ends_task=True)).run())

        ended = asyncio.run(event())
        assert type(ended) is TriggerEvent
        assert ended.payload["reports"][0]["omnimessage_id"] == delivered

    def test_a_failure_never_ends_the_task_in_the_triggerer(self, send, sandbox, monkeypatch):
        monkeypatch.setattr(triggers, "SHORTEST_ABSENCE", 0.0)

        async def event():
            trigger = again(a_trigger(send("+37255550001"), ends_task=True))
            trigger.trigger_id = 7
            sandbox.advance(10)
            return await anext(trigger.run())

        assert type(asyncio.run(event())) is TriggerEvent

    def test_a_task_returns_to_a_worker_only_after_the_scheduler_has_noticed_its_deferral(self, send, sandbox):
        """If the task is queued again before the scheduler has noticed that it was deferred, it counts as killed."""
        id_ = send("+37255550001")
        sandbox.advance(10)

        async def event():
            trigger = again(a_trigger(id_, ends_task=True))
            trigger.trigger_id = 7
            firing = asyncio.ensure_future(anext(trigger.run()))
            while polling._pollers.get(asyncio.get_running_loop()) or not status_requests(sandbox):
                await asyncio.sleep(0.01)
            return await asyncio.wait_for(firing, 0.3)

        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(event())

    def test_the_log_shows_each_change_once(self, send, sandbox, capsys):
        id_ = send()

        async def watch():
            waiting = asyncio.create_task(fire(a_trigger(id_)))
            for seconds in (0.6, 0.6, 5):
                seen = len(status_requests(sandbox))
                while len(status_requests(sandbox)) < seen + 3:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(sandbox.advance, seconds)
            await waiting

        asyncio.run(watch())
        logged = [line.split(f"{id_}: ")[1] for line in capsys.readouterr().out.splitlines() if f"{id_}: " in line]
        expected = ["viber: in progress", "viber: ACK", "viber: ACCEPTD", "delivered (viber: DELIVRD)"]
        assert [line[: len(words)] for line, words in zip(logged, expected, strict=True)] == expected

    def test_what_it_returns_ends_the_task_from_the_triggerer(self, send, sandbox, pushed, monkeypatch):
        id_ = send("+37255550001")
        sandbox.advance(10)

        async def event():
            trigger = a_trigger(id_, ends_task=True, one=True, returns=["fulfilled", "failed"])
            return await anext(in_triggerer(trigger).run())

        assert isinstance(asyncio.run(event()), TaskSuccessEvent)
        assert pushed[0]["value"]["outcome"] == "failed"

    @full_size
    def test_it_ends_by_its_deadline_though_responses_are_slow(self, send, sandbox):
        ids = [send("+37255550004") for _ in range(12)]
        sandbox.add_fault("slow", call="status", seconds=20, times="always")
        payload = fired(a_trigger(*ids, seconds=2))
        assert payload["ending"] == "timed_out"
        assert len(status_requests(sandbox)) <= 1, "the others wait for the first"
        assert not any(report["channels"] for report in payload["reports"]), "the response is not waited for"

    def test_rejected_credentials_are_one_request(self, send, sandbox):
        ids = [send() for _ in range(30)]
        sandbox.add_fault("unauthorized", call="status", times="always")
        payload = fired(a_trigger(*ids))
        assert payload["ending"] == "error"
        assert {report["outcome"] for report in payload["reports"]} == {"unknown"}
        assert len(status_requests(sandbox)) == 1

    def test_a_row_of_an_older_version_is_read(self, delivered):
        row = {
            "messages": [[delivered, None]],
            "omnimessage_conn_id": CONNECTION,
            "since": now().isoformat(),
            "deadline": (now() + timedelta(seconds=30)).isoformat(),
            "poke_interval": 0.05,
            "wait_for": "delivered",
            "require": "all",
            "limit": "the timeout of 0:00:30",
            "ends_task": True,
            "one": True,
            "bulk": None,
        }
        assert fired(OmnimessageDeliveryTrigger(**row))["ending"] == "fulfilled"
        bulk = {**row, "messages": [], "one": False, "bulk": {"ids": delivered, "moments": "-"}}
        assert fired(OmnimessageDeliveryTrigger(**bulk))["counts"]["delivered"] == 1

    def test_a_look_up_of_the_connection_that_fails_is_repeated(self, delivered, monkeypatch):
        look_up, failures = lookup.connection_of, [ConnectionError("no supervisor"), AirflowNotFoundException("gone")]

        async def fails_at_first(conn_id):
            if failures:
                raise failures.pop()
            return await look_up(conn_id)

        monkeypatch.setattr(lookup, "connection_of", fails_at_first)
        assert fired(a_trigger(delivered))["ending"] == "fulfilled"
        assert failures == []

    def test_a_connection_that_does_not_exist_ends_the_wait(self, sandbox, monkeypatch):
        monkeypatch.setattr(polling.backoff, "pause", lambda *_: 0.0)

        async def is_missing(conn_id):
            raise AirflowNotFoundException(conn_id)

        monkeypatch.setattr(lookup, "connection_of", is_missing)
        payload = fired(a_trigger("m-1"))
        assert payload["ending"] == "error"
        assert "connection 'omnimessage_default' does not exist; create it in Airflow" in payload["reason"]

    def test_a_report_from_the_receiver_wakes_it(self, send, sandbox):
        """A listener finds the wait at the poller, makes a message due, and wakes it."""
        id_ = send()

        async def listen():
            waiting_ = asyncio.create_task(fire(a_trigger(id_, poke_interval=3600, seconds=7200)))
            while not polling._pollers.get(asyncio.get_running_loop()):
                await asyncio.sleep(0.01)
            (poller,) = polling._pollers[asyncio.get_running_loop()].values()
            await asyncio.sleep(0.05)
            await asyncio.to_thread(sandbox.advance, 10)
            (wait,) = poller.waits
            wait.make_due(wait.find(id_), now())
            poller.wake(wait)
            return await asyncio.wait_for(waiting_, 20)

        (event,) = asyncio.run(listen())
        assert event.payload["ending"] == "fulfilled"
        assert len(status_requests(sandbox)) == 1

    def test_what_it_serialises_is_no_secret(self, sandbox):
        _, kwargs = a_trigger("m-1").serialize()
        assert set(kwargs) == {
            "messages", "omnimessage_conn_id", "since", "deadline", "poke_interval",
            "wait_for", "require", "limit", "ends_task", "returns", "one", "bulk",
        }  # fmt: skip
        assert sandbox.password not in json.dumps(kwargs)


class TestThousands:
    def a_bulk(self, ids, **settings):
        return a_trigger(**{"bulk": {"ids": " ".join(ids), "moments": "-"}, **settings})

    @full_size
    def test_they_are_counted(self, send, sandbox):
        ids = [send("+37255550001" if index < 3 else "+37255555555") for index in range(60)]
        sandbox.advance(10)
        payload = fired(self.a_bulk(ids, require=0.9))
        assert payload["ending"] == "fulfilled"
        assert payload["reports"] == []
        assert payload["counts"]["messages"] == 60
        assert payload["counts"]["delivered"] >= 54

    def test_several_bulk_sends_are_one_wait(self, send, sandbox, tmp_path):
        ids = [send() for _ in range(5)]
        sandbox.advance(10)
        path = tmp_path / "results.jsonl"
        rows = [{"row": n, "omnimessage_id": id_, "time_to_send": None} for n, id_ in enumerate(ids[3:], 1)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        bulk = [{"ids": " ".join(ids[:3]), "moments": "-"}, {"results": str(path)}]
        assert fired(a_trigger(bulk=bulk))["counts"]["delivered"] == 5

    def test_success_ends_the_task_with_the_numbers(self, delivered, pushed):
        async def event():
            return await anext(in_triggerer(self.a_bulk([delivered], ends_task=True)).run())

        assert isinstance(asyncio.run(event()), TaskSuccessEvent)
        assert pushed[0]["value"]["delivered"] == 1

    @full_size
    def test_nothing_is_polled_during_the_pause_after_a_429(self, send, sandbox):
        ids = [send() for _ in range(40)]
        sandbox.advance(10)
        sandbox.add_fault("rate_limited", call="status", retry_after=1)
        before = len(status_requests(sandbox))
        assert fired(self.a_bulk(ids))["ending"] == "fulfilled"
        assert len(status_requests(sandbox)) - before <= 40 + IN_FLIGHT

    def test_rejected_credentials_end_it(self, send, sandbox):
        ids = [send() for _ in range(40)]
        sandbox.add_fault("unauthorized", call="status", times="always")
        assert fired(self.a_bulk(ids))["ending"] == "error"
        assert len(status_requests(sandbox)) <= 2 * IN_FLIGHT

    def test_what_was_found_is_reported_although_the_credentials_are_rejected_then(self, send, sandbox):
        ids = [send() for _ in range(40)]
        sandbox.advance(10)
        sandbox.add_fault("unauthorized", call="status", times="always", after=20)
        payload = fired(self.a_bulk(ids))
        assert payload["ending"] == "error"
        assert payload["reason"].count("rejected the credentials") == 1
        assert payload["counts"]["delivered"] == 20
        assert payload["counts"]["unknown"] == 20

    def test_a_file_that_another_run_has_written_since_is_rejected(self, delivered, tmp_path):
        path = tmp_path / "results.jsonl"
        path.write_text(json.dumps({"row": 1, "omnimessage_id": "another", "time_to_send": None}) + "\n")
        source = {"results": str(path), "accepted": 1, "first_omnimessage_id": delivered}
        payload = fired(a_trigger(bulk=source))
        assert payload["ending"] == "error"
        assert "was written again since" in payload["reason"]

    def test_a_missing_file_is_reported(self, sandbox, tmp_path):
        payload = fired(a_trigger(bulk={"results": str(tmp_path / "gone.jsonl")}))
        assert payload["ending"] == "error"
        assert payload["reason"].startswith("The results of the bulk send could not be read: ")

    @pytest.mark.parametrize("content", ['{"row": 1, "sta', "[1]", '{"name": "Anna"}', "\x00"])
    def test_a_file_of_another_kind_is_reported(self, sandbox, tmp_path, content):
        path = tmp_path / "results.jsonl"
        path.write_text(f"{content}\n")
        payload = fired(a_trigger(bulk={"results": str(path)}))
        assert payload["ending"] == "error"
        assert payload["reason"].startswith("The results of the bulk send could not be read: ")
