"""
The dead man's switch in generated DAGs, run beside the same DAG with a plain task group.

``OMNIMESSAGE_SHAPES`` is the number of DAGs: ``scripts/test --full-size`` sets it to 50, ``--soak`` to 2,000.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, assume, example, given, note, settings
from hypothesis import strategies as st
from lockstep import Lockstep
from shapes import GROUP, Node, Shape, build, shapes

from airflow_provider_omnimessage.alerts.arming import ArmDeadMansSwitchOperator
from airflow_provider_omnimessage.alerts.deadman import TRIES
from airflow_provider_omnimessage.alerts.disarming import DisarmDeadMansSwitchOperator
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.sandbox.faults import FAULTS
from airflow_provider_omnimessage.sandbox.messages import Message
from airflow_provider_omnimessage.tasks import parallel

TO = "+37255555555"
OTHER = "+37255555556"
#: Messente rejects messages to it.
REJECTED = "+37255550005"
SOON = timedelta(hours=1)
OWN = {f"{GROUP}.{name}" for name in ("before_arm", "arm", "after_arm", "disarm")}
DONE = {"success", "skipped", "removed"}
#: Seconds that ``arm`` may hold the work up: the ``deadline`` of a connection.
BUDGET = 120.0


def _with_status(word):
    return lambda report: {**report, "statuses": [{**entry, "status": word} for entry in report["statuses"]]}


#: What Messente's delivery report is turned into. None of them says that a scheduled message has ended.
ODD_REPORTS = {
    "as it is": lambda report: report,
    "no entry": lambda report: {**report, "statuses": []},
    "no status": _with_status(None),
    "an unknown status": _with_status("BRANDNEW"),
    "in progress before its time": _with_status("ACK"),
    "the deleted entry of one channel of two": lambda report: {
        **report,
        "statuses": [*_with_status("DELETED")(report)["statuses"], *_with_status(None)(report)["statuses"]],
    },
    "of another message": lambda report: {**report, "omnimessage_id": "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"},
    "an error with status 200": lambda report: {"errors": [{"title": "Internal", "code": "103", "detail": "odd"}]},
    "not an object": lambda report: [report],
}
EXAMPLES = int(os.environ.get("OMNIMESSAGE_SHAPES", "2"))
_numbers = count()


def is_own(task_id):
    return task_id in OWN or (task_id.startswith(GROUP) and task_id.endswith("_ended"))


@pytest.fixture
def seconds_in_arm(monkeypatch, pauses):
    """Return a list of the seconds that each try of ``arm`` pauses."""
    found = []
    whole = ArmDeadMansSwitchOperator._execute

    def execute(self, context):
        begin = sum(pauses)
        try:
            return whole(self, context)
        finally:
            found.append(sum(pauses) - begin)

    monkeypatch.setattr(ArmDeadMansSwitchOperator, "_execute", execute)
    return found


@pytest.fixture
def turn_reports(monkeypatch):
    """Return a function that turns all delivery reports of the sandbox into odd ones."""
    report = Message.report

    def turn(into):
        monkeypatch.setattr(Message, "report", lambda message: ODD_REPORTS[into](report(message)))

    return turn


@pytest.fixture
def check(
    _airflow, sandbox, tmp_path, monkeypatch, capfd, seconds_in_arm, turn_reports, each_try_has_a_process_of_its_own
):
    """Run a DAG with a switch and the same with a plain group, and compare their outcomes."""
    monkeypatch.setattr(DisarmDeadMansSwitchOperator, "poke_interval", 0.0)
    monkeypatch.setitem(TRIES, "retry_delay", timedelta(0))
    monkeypatch.setitem(TRIES, "retry_exponential_backoff", False)
    # on the tests' clock, the pauses of parallel requests would add up
    monkeypatch.setattr(parallel, "IN_FLIGHT", 1)

    def checking(
        shape,
        *,
        seed=0,
        clears=(),
        on_failure="wait",
        required=False,
        recipients=(TO,),
        faults=(),
        reports="as it is",
    ):
        turn_reports(into=reports)
        sandbox.reset()
        seconds_in_arm.clear()
        number = next(_numbers)
        settings = {
            "to": list(recipients),
            "text": "Late {{ run_id }}",
            "time_to_send": SOON,
            "on_failure": on_failure,
            "required": required,
        }
        plain = _plain(shape, f"plain_{number}", tmp_path)
        if plain is None:
            return None
        shape = replace(shape, settings=settings)
        guarded = _guarded(shape, f"guarded_{number}", tmp_path)
        if isinstance(guarded, str):
            assert f"DeadMansSwitch '{GROUP}'" in guarded
            return guarded
        for fault in faults:
            sandbox.add_fault(**fault)
        is_odd = bool(faults) or reports != "as it is"
        outcome = Outcome(guarded, plain, sandbox, shape, recipients, faults, required, is_odd)
        guarded.run(seed=seed)
        plain.run(order=guarded.order)
        outcome.check()
        for clear in clears:
            names = [shape.task_id(position) for position in clear["positions"] if position < len(shape.nodes)] or None
            for run in (guarded, plain):
                run.clear(names, downstream=names is not None, only_failed=clear["only_failed"])
            guarded.resume(seed=seed)
            plain.resume(order=guarded.order)
            outcome.check(is_whole_run=names is None and not clear["only_failed"])
        assert all(seconds <= BUDGET for seconds in seconds_in_arm), seconds_in_arm
        capfd.readouterr()
        return outcome

    return checking


def _plain(shape, dag_id, folder):
    """Make the plain DAG; ``None`` if Airflow itself rejects it."""
    try:
        return Lockstep(build(shape, dag_id, with_switch=False), folder)
    except InvalidInputError:
        raise
    except Exception as error:
        note(f"Not a DAG: {error}")
        return None


def _guarded(shape, dag_id, folder):
    """Make the DAG with a switch; the text of the error if the switch rejects it."""
    try:
        return Lockstep(build(shape, dag_id, with_switch=True), folder)
    except InvalidInputError as error:
        return str(error)


class Outcome:
    """Outcomes of a DAG with a switch, and of the same DAG with a plain group."""

    def __init__(self, guarded, plain, sandbox, shape, recipients, faults, required, is_odd):
        self.guarded, self.plain = guarded, plain
        self._sandbox = sandbox
        self._shape = shape
        self._recipients = recipients
        self._faults = faults
        self._required = required
        self._is_odd = is_odd
        # from then on, the plain DAG has run more, until both run anew
        self._was_held_back = False

    def check(self, is_whole_run=True):
        """
        Compare what there is now.

        :param is_whole_run: whether all tasks have just run, and not only those that were cleared.
        """
        states = self.guarded.states()
        own = {task_id: state for (task_id, _), state in states.items() if is_own(task_id)}
        note(f"{own} {self.guarded.order}")
        work = {key: state for key, state in states.items() if not is_own(key[0])}
        if self._is_held_back(own):
            guarded = {key: state for key, state in work.items() if key[0].startswith(f"{GROUP}.")}
            assert not set(guarded.values()) & {"success", "failed"}, guarded
            self._was_held_back = True
        elif is_whole_run or not self._was_held_back:
            self._was_held_back = False
            assert work == self.plain.states()
            assert self.guarded.state == self.plain.state
        self._check_alerts(work, own)

    def _is_held_back(self, own):
        return self._required and own[f"{GROUP}.arm"] in ("failed", "upstream_failed")

    def _check_alerts(self, states, own):
        counted = {
            self._shape.task_id(position)
            for position, node in enumerate(self._shape.nodes)
            if node.place != "out" and node.kind not in ("setup", "teardown")
        }
        # The clock does not move: an alert can only have been sent because work failed. Work that is held back is
        # skipped if its rule is one_done.
        is_done = not self._is_held_back(own) and all(
            state in DONE for (task_id, _), state in states.items() if task_id in counted
        )
        if self._shape.fail_fast and "failed" in states.values() and "skipped" in states.values():
            return
        expected = set(self._recipients) - {REJECTED}
        messages = self._sandbox.messages
        waiting = {message["to"] for message in messages if message["state"] == "scheduled"}
        sent = {message["to"] for message in messages if message["sent_at"]}
        if is_done:
            # an alert whose response was lost cannot be cancelled; other alerts that remain fail a task
            assert not waiting or self._is_odd, (own, messages)
            shown = "skipped" if self._shape.fail_fast else "failed"  # a failed task would stop such a DAG
            assert not waiting or own[f"{GROUP}.disarm"] == shown or self._loses_responses
        else:
            # an alert that could not be scheduled fails a task
            is_shown = self._is_odd and own[f"{GROUP}.arm"] == "failed"
            assert waiting | sent == expected or is_shown, (own, messages)

    @property
    def _loses_responses(self):
        return any(fault["processed"] for fault in self._faults)


@st.composite
def faults(draw):
    """Draw what goes wrong at Messente: lost, late, odd and missing responses."""
    name = draw(st.sampled_from(sorted(set(FAULTS) - {"redirect", "slow"})))
    fault = {
        "fault": name,
        "call": draw(st.sampled_from(("send", "cancel", "status", "any"))),
        "times": draw(st.sampled_from((1, 2, "always"))),
        "after": draw(st.integers(0, 2)),
        "processed": draw(st.sampled_from((FAULTS[name], True))),
    }
    if name in ("server_error", "rate_limited"):
        fault["retry_after"] = draw(st.sampled_from((None, 3, 999_999)))
    return fault


CLEARS = st.fixed_dictionaries(
    {"positions": st.lists(st.integers(0, 5), max_size=2, unique=True), "only_failed": st.booleans()}
)
relaxed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=EXAMPLES <= 50,
    database=None,
    print_blob=True,
)


@relaxed
@given(
    shape=shapes(),
    seed=st.integers(0, 99),
    clears=st.lists(CLEARS, max_size=2),
    on_failure=st.sampled_from(("wait", "wait", "send_now")),
    required=st.sampled_from((False, False, True)),
    recipients=st.sampled_from(((TO,), (TO,), (TO, OTHER), (REJECTED, TO))),
    faults=st.just([]) | st.lists(faults(), max_size=2),
    reports=st.sampled_from(sorted(ODD_REPORTS)),
)
@example(
    # the work is held back at first, and runs for the first time after a clear
    shape=Shape((Node(outcome="skip", rule="all_done_min_one_success"),)),
    seed=0,
    clears=[{"positions": [], "only_failed": False}] * 2,
    on_failure="wait",
    required=True,
    recipients=(TO,),
    faults=[{"fault": "broken_json", "call": "send", "times": 1, "after": 0, "processed": True}],
    reports="an error with status 200",
)
def test_the_work_runs_as_in_a_plain_group_and_is_guarded(check, shape, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = check(shape, **settings)
    assume(outcome is not None)
