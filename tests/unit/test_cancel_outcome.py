"""The outcome of a cancel: every combination of responses, and real cancels against the sandbox."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta, timezone

import pytest
from full_size import first, full_size
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from airflow_provider_omnimessage.api import calls, cancelling
from airflow_provider_omnimessage.api.cancel_result import CancelResult
from airflow_provider_omnimessage.api.cancelling import Deletion, Finding
from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    LostResponseError,
    NotCancelledError,
    NotFoundError,
    NotSentError,
    OmnimessageError,
    RateLimitedError,
    ServerError,
    UnexpectedResponseError,
)
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.responses import Response
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO = "+37255555555"
ID = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"
BEFORE, AFTER, NOT_KNOWN = True, False, None

NOW, EARLIER = CancelResult.CANCELLED, CancelResult.ALREADY_CANCELLED
SENT, UNKNOWN, OPEN = CancelResult.ALREADY_SENT, CancelResult.UNKNOWN, None

REPORTS = {
    Finding.CANCELLED: (["DELETED"], ["DELETED", "DELETED"]),
    Finding.PENDING: ([None], [None, None], ["UNDELIV", None]),
    Finding.UNDER_WAY: (["ACK"], ["ACCEPTD"], ["UNKNOWN"], [None, "ACK"], ["UNDELIV", "ACCEPTD"]),
    Finding.PARTLY_DELETED: (["DELETED", None], [None, "DELETED"], ["DELETED", "ACK"]),
    Finding.DELIVERED: (["DELIVRD"], ["SEEN"], ["DELETED", "DELIVRD"], ["UNDELIV", "SEEN"], ["BRANDNEW", "DELIVRD"]),
    Finding.FAILED: (["UNDELIV"], ["EXPIRED", "REJECTD"], ["UNDELIV", "DELETED"]),
    Finding.UNRECOGNIZED: (["BRANDNEW"], ["deleted"], ["DELETED", "BRANDNEW"], [None, "BRANDNEW"]),
    Finding.EMPTY: ([],),
}

# For each report, the results of a DELETE with Messente's 404, an unknown outcome, or another server's 404;
# each before its time, after it, and if that is not known.
TABLE = {
    Finding.CANCELLED: ((EARLIER, EARLIER, EARLIER), (NOW, NOW, NOW), (EARLIER, EARLIER, EARLIER)),
    Finding.PENDING: ((OPEN, SENT, OPEN), (OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN)),
    Finding.UNDER_WAY: ((OPEN, SENT, SENT), (OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN)),
    Finding.PARTLY_DELETED: ((OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN)),
    Finding.DELIVERED: ((SENT, SENT, SENT), (SENT, SENT, SENT), (SENT, SENT, SENT)),
    Finding.FAILED: ((SENT, SENT, SENT), (SENT, SENT, SENT), (SENT, SENT, SENT)),
    Finding.UNRECOGNIZED: ((OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN)),
    Finding.EMPTY: ((OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN)),
    Finding.NOT_FOUND: ((UNKNOWN, UNKNOWN, UNKNOWN), (UNKNOWN, UNKNOWN, UNKNOWN), (UNKNOWN, UNKNOWN, UNKNOWN)),
    Finding.LOST: ((OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN), (OPEN, OPEN, OPEN)),
}
COLUMN = {
    Deletion.NOT_FOUND: 0,
    Deletion.LOST: 1,
    Deletion.SERVER_ERROR: 1,
    Deletion.CONTRADICTORY: 1,
    Deletion.FOREIGN_NOT_FOUND: 2,
}


def report_of(statuses):
    entries = [{"channel": f"c{number}", "status": status} for number, status in enumerate(statuses)]
    return DeliveryReport.read({"omnimessage_id": ID, "statuses": entries})


class TestTable:
    def test_it_names_every_finding(self):
        assert set(TABLE) == set(Finding)

    @pytest.mark.parametrize("finding", Finding)
    def test_every_combination(self, finding):
        for deletion, (index, before_time) in itertools.product(Deletion, enumerate((BEFORE, AFTER, NOT_KNOWN))):
            expected = NOW if deletion is Deletion.ACCEPTED else TABLE[finding][COLUMN[deletion]][index]
            assert cancelling.decide(deletion, finding, before_time=before_time) is expected, (deletion, before_time)

    def test_before_its_time_only_an_accepted_delete_or_deleted_on_every_channel_is_cancelled(self):
        for deletion, finding, doubt in itertools.product(Deletion, Finding, (False, True)):
            result = cancelling.decide(deletion, finding, before_time=True, earlier_in_doubt=doubt)
            is_cancelled = result in (CancelResult.CANCELLED, CancelResult.ALREADY_CANCELLED)
            assert is_cancelled is (deletion is Deletion.ACCEPTED or finding is Finding.CANCELLED)

    def test_before_its_time_a_message_in_progress_never_counts_as_sent(self):
        unfinished = (Finding.PENDING, Finding.UNDER_WAY, Finding.PARTLY_DELETED, Finding.UNRECOGNIZED, Finding.EMPTY)
        for deletion, finding in itertools.product(set(Deletion) - {Deletion.ACCEPTED}, unfinished):
            assert cancelling.decide(deletion, finding, before_time=True) is None

    def test_after_a_lost_attempt_a_404_and_a_cancelled_report_mean_cancelled_now(self):
        for before_time in (BEFORE, AFTER, NOT_KNOWN):
            found = cancelling.decide(
                Deletion.NOT_FOUND, Finding.CANCELLED, before_time=before_time, earlier_in_doubt=True
            )
            assert found is CancelResult.CANCELLED

    @pytest.mark.parametrize(
        ("finding", "statuses"), [(finding, each) for finding, many in REPORTS.items() for each in many]
    )
    def test_what_each_report_shows(self, finding, statuses):
        assert cancelling.read_finding(report_of(statuses)) is finding

    @pytest.mark.parametrize(
        ("error", "finding"),
        [
            (NotFoundError("", status_code=404), Finding.NOT_FOUND),
            (UnexpectedResponseError("", status_code=404, maybe_processed=False), Finding.LOST),
            (LostResponseError(""), Finding.LOST),
            (ServerError("", status_code=500), Finding.LOST),
        ],
    )
    def test_what_a_failed_request_for_a_report_shows(self, error, finding):
        assert cancelling.read_finding(error) is finding

    @pytest.mark.parametrize(
        ("errors", "deletion"),
        [
            ([], Deletion.ACCEPTED),
            ([NotFoundError("", status_code=404)], Deletion.NOT_FOUND),
            ([LostResponseError(""), NotFoundError("", status_code=404)], Deletion.NOT_FOUND),
            ([UnexpectedResponseError("", status_code=404, maybe_processed=False)], Deletion.FOREIGN_NOT_FOUND),
            ([UnexpectedResponseError("", status_code=200)], Deletion.CONTRADICTORY),
            ([LostResponseError("")], Deletion.LOST),
            ([LostResponseError(""), NotSentError("")], Deletion.LOST),
            ([ServerError("", status_code=503), RateLimitedError("", status_code=429)], Deletion.SERVER_ERROR),
            ([AuthenticationError("", status_code=401)], None),
            ([NotSentError("")], None),
            ([RateLimitedError("", status_code=429)], None),
            ([UnexpectedResponseError("", status_code=302, maybe_processed=False)], None),
        ],
    )
    def test_what_each_outcome_of_a_delete_is(self, errors, deletion):
        assert cancelling.read_deletion(errors) is deletion


def respond(status, body):
    return Response(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


class TestResponses:
    """A 200 with errors never means accepted, and a report counts only for the message it was requested for."""

    ERRORS = {"errors": [{"title": "Internal Server Error", "detail": "try later", "code": "104", "source": None}]}

    @pytest.mark.parametrize(
        "call",
        [calls.send({}), calls.send_bulk([{}]), calls.cancel(ID), calls.delivery_report(ID)],
        ids=lambda call: call.name,
    )
    @pytest.mark.parametrize("more", [{}, {"omnimessage_id": ID, "statuses": [], "messages": [{}]}])
    @pytest.mark.parametrize("status", [200, 201, 202])
    def test_a_success_with_errors_has_an_unknown_outcome(self, call, more, status):
        with pytest.raises(UnexpectedResponseError, match="try later") as caught:
            call.result(respond(status, {**more, **self.ERRORS}))
        assert caught.value.maybe_processed
        assert caught.value.codes == ("104",)

    def test_an_entry_with_an_id_and_errors_has_an_unknown_outcome(self):
        (entry,) = calls.send_bulk([{}]).result(respond(201, {"messages": [{"omnimessage_id": ID, **self.ERRORS}]}))
        assert entry.maybe_processed

    def test_empty_errors_are_none(self):
        assert calls.cancel(ID).result(respond(202, {"errors": []})) is None

    def test_the_report_of_another_message_is_not_accepted(self):
        with pytest.raises(UnexpectedResponseError, match="the report of another message"):
            calls.delivery_report(ID).result(respond(200, {"omnimessage_id": "other", "statuses": []}))

    def test_a_report_without_an_id_is_that_of_the_message_requested(self):
        assert calls.delivery_report(ID).result(respond(200, {"statuses": []})).omnimessage_id == ID


class Scripted:
    """Returns responses that the sandbox cannot produce."""

    def __init__(self, delete: Response, report: Response) -> None:
        self.responses = {"DELETE": delete, "GET": report}
        self.made: list[str] = []

    def respond(self, call):
        self.made.append(call.method)
        return call.result(self.responses[call.method])


NOT_FOUND = respond(404, {"errors": [{"title": "Not found", "detail": "", "code": "101", "source": None}]})


@pytest.fixture
def cancel(sandbox, monkeypatch):
    """Cancel against a server that always returns the same pair of responses."""

    def run(delete, report, time_to_send=None):
        scripted = Scripted(delete, report)
        hook = OmnimessageHook()
        monkeypatch.setattr(hook, "_make", lambda call, failures=None: scripted.respond(call))
        try:
            return hook.try_to_cancel(ID, time_to_send), scripted.made
        except OmnimessageError as error:
            return error, scripted.made

    return run


def report(*statuses):
    entries = [{"channel": f"c{number}", "status": status} for number, status in enumerate(statuses)]
    return respond(200, {"omnimessage_id": ID, "statuses": entries})


IN_AN_HOUR = datetime.now(timezone.utc) + timedelta(hours=1)
AN_HOUR_AGO = datetime.now(timezone.utc) - timedelta(hours=1)


class TestUndecided:
    @pytest.mark.parametrize("statuses", [[None], ["ACK"], ["DELETED", None], ["BRANDNEW"], []])
    def test_a_404_before_its_time_is_asked_again_and_ends_as_an_error(self, cancel, pauses, statuses):
        error, made = cancel(NOT_FOUND, report(*statuses), IN_AN_HOUR)
        assert isinstance(error, NotCancelledError)
        assert "may still be scheduled" in str(error)
        assert (error.may_pass, error.maybe_processed) == (True, True)
        assert made == ["DELETE", "GET"] * 4
        assert len(pauses) == 3

    @pytest.mark.parametrize("statuses", [[None], ["ACK"]])
    def test_the_same_after_its_time_was_sent(self, cancel, statuses):
        found, made = cancel(NOT_FOUND, report(*statuses), AN_HOUR_AGO)
        assert (found.result, made) == (CancelResult.ALREADY_SENT, ["DELETE", "GET"])

    def test_a_success_with_errors_is_an_error_unless_the_report_shows_it_cancelled(self, cancel):
        contradiction = respond(200, TestResponses.ERRORS)
        error, made = cancel(contradiction, report(None), IN_AN_HOUR)
        assert isinstance(error, UnexpectedResponseError)
        assert made == ["DELETE", "GET"] * 4
        assert cancel(contradiction, report("DELETED"), IN_AN_HOUR)[0].result is CancelResult.CANCELLED

    def test_rejected_credentials_are_not_tried_again(self, cancel):
        refused = respond(401, TestResponses.ERRORS)
        assert isinstance(cancel(refused, refused)[0], AuthenticationError)
        error, made = cancel(NOT_FOUND, refused)
        assert isinstance(error, AuthenticationError)
        assert made == ["DELETE", "GET"]

    def test_asking_again_stays_within_the_time_that_the_caller_set(self, sandbox, pauses, monkeypatch):
        hook = OmnimessageHook()
        scripted = Scripted(NOT_FOUND, report(None))
        monkeypatch.setattr(hook, "_make", lambda call, failures=None: scripted.respond(call))
        with hook.within(0.0001), pytest.raises(NotCancelledError):
            hook.try_to_cancel(ID, IN_AN_HOUR)
        assert pauses == []


FAULTS = ("lost_answer", "server_error", "rate_limited", "cut", "html", "broken_json")


class Alerts:
    """Messages at the sandbox, and what may be reported of a cancel."""

    def __init__(self, sandbox) -> None:
        self.sandbox = sandbox
        self.hook = OmnimessageHook()
        self.due: dict[str, datetime] = {}
        self.cancelled: set[str] = set()

    def schedule(self, minutes: int) -> str:
        due = self.sandbox.now + timedelta(minutes=minutes)
        omnimessage_id = self.hook.send(TO, [sms("a")], time_to_send=due).omnimessage_id
        self.due[omnimessage_id] = due
        return omnimessage_id

    def cancel(self, omnimessage_id: str, *, knows_the_time: bool) -> None:
        # the sandbox's clock is ahead of this machine's
        shift = self.sandbox.now - datetime.now(timezone.utc)
        try:
            found = self.hook.try_to_cancel(
                omnimessage_id, self.due[omnimessage_id] - shift if knows_the_time else None
            )
        except OmnimessageError as error:
            assert error.may_pass or error.maybe_processed  # noqa: PT017
            return
        state = self.state(omnimessage_id)
        assert found.is_cancelled is (state == "cancelled")
        assert found.result is not CancelResult.UNKNOWN
        if found.is_cancelled:
            self.cancelled.add(omnimessage_id)
        else:
            assert state not in ("scheduled", "cancelled")

    def state(self, omnimessage_id: str) -> str:
        return next(each["state"] for each in self.sandbox.messages if each["omnimessage_id"] == omnimessage_id)

    def check(self) -> None:
        for each in self.sandbox.messages:
            assert each["omnimessage_id"] not in self.cancelled or each["sent_at"] is None


@pytest.mark.parametrize("fault", first(2, FAULTS))
@pytest.mark.parametrize("call", ["cancel", "any"])
def test_under_every_fault_a_cancel_is_reported_as_it_happened(sandbox, fault, call):
    alerts = Alerts(sandbox)
    for times, processed, knows_the_time in itertools.product((1, "always"), (False, True), (False, True)):
        scheduled, cancelled, sent = alerts.schedule(60), alerts.schedule(60), alerts.schedule(1)
        sandbox.advance(timedelta(minutes=2))
        alerts.hook.cancel(cancelled)
        for omnimessage_id in (scheduled, cancelled, sent):
            sandbox.add_fault(fault, call=call, times=times, processed=processed)
            alerts.cancel(omnimessage_id, knows_the_time=knows_the_time)
            sandbox.clear_faults()
    alerts.check()


class Cancels(RuleBasedStateMachine):
    """Messages are scheduled, cancelled and sent in any order, with failing requests in between."""

    sandbox = None

    @initialize()
    def start(self):
        self.sandbox.reset()
        self.alerts = Alerts(self.sandbox)
        self.alerts.schedule(10)

    @rule(minutes=st.integers(1, 90))
    def schedule(self, minutes):
        self.alerts.schedule(minutes)

    @rule(minutes=st.integers(1, 60))
    def let_time_pass(self, minutes):
        self.sandbox.advance(timedelta(minutes=minutes))

    @rule(
        fault=st.sampled_from(FAULTS),
        call=st.sampled_from(["cancel", "status"]),
        times=st.sampled_from([1, 2, "always"]),
        processed=st.booleans(),
    )
    def break_something(self, fault, call, times, processed):
        self.sandbox.add_fault(fault, call=call, times=times, processed=processed)

    @rule()
    def mend_everything(self):
        self.sandbox.clear_faults()

    @rule(knows_the_time=st.booleans())
    def cancel_all(self, knows_the_time):
        for omnimessage_id in list(self.alerts.due):
            self.alerts.cancel(omnimessage_id, knows_the_time=knows_the_time)

    @invariant()
    def what_was_reported_as_cancelled_is_never_sent(self):
        if hasattr(self, "alerts"):
            self.alerts.check()

    def teardown(self):
        if hasattr(self, "alerts"):
            self.sandbox.clear_faults()
            self.cancel_all(knows_the_time=True)
            self.alerts.check()


@full_size
def test_a_cancel_is_reported_as_it_happened_in_any_order_of_faults(sandbox):
    Cancels.sandbox = sandbox
    run_state_machine_as_test(
        Cancels,
        settings=settings(
            max_examples=20, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
