"""One beat of a heartbeat: schedule the next message before the last one is cancelled, and remember both."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import Variable
from airflow_provider_omnimessage.alerts.steps import Notice
from airflow_provider_omnimessage.api.cancel_result import CancelResult
from airflow_provider_omnimessage.api.errors import InvalidInputError, OmnimessageError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.timing import TimeToSend
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.cancelling import cancel_each

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Seconds between the attempts to store the id of a message that is scheduled.
STORE_PAUSES = (1.0, 3.0, 6.0)
#: Description of the variables. The command ``alerts`` finds them by its beginning.
DESCRIPTION = "Messages that are scheduled for {}"


@dataclass
class HeartbeatState:
    """What the beats know of their messages.

    :param live: ids of the last complete beat, one for each recipient.
    :param left: ids that must be cancelled: of earlier beats, or of one that did not finish.
    :param in_doubt: times, ISO 8601 in UTC, at which messages go out whose response was lost: no id is known.
    :param times: when the messages go out, ISO 8601 in UTC, by id; empty in a state that an older version stored.
    :param expected: the time, ISO 8601 in UTC, of the run that ``live`` waits for; ``None``: any run, or a beat.
    :param dag_id: the DAG that they are scheduled for.
    """

    live: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    in_doubt: list[str] = field(default_factory=list)
    times: dict[str, str] = field(default_factory=dict)
    expected: str | None = None
    dag_id: str | None = None

    @classmethod
    def read(cls, value: Any) -> HeartbeatState:
        """Return the state that was stored.

        :raises ValueError: if a time in it has no offset.
        :raises TypeError: if it is anything else.
        """
        times = {str(omnimessage_id): str(due) for omnimessage_id, due in value.pop("times", {}).items()}
        expected, dag_id = value.pop("expected", None), value.pop("dag_id", None)
        ids = {name: [str(item) for item in items] for name, items in value.items()}
        state = cls(**ids, times=times, expected=expected, dag_id=dag_id)
        known = [*state.in_doubt, *times.values(), *([expected] if expected is not None else [])]
        if any(datetime.fromisoformat(time).tzinfo is None for time in known):
            raise ValueError("a time without an offset")
        return state

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, with the times of those messages only that are still known."""
        times = {one: due for one, due in self.times.items() if one in self.live or one in self.left}
        return {**asdict(self), "times": times}

    def known_times(self) -> dict[str, datetime]:
        """Return when messages go out, by id."""
        return {omnimessage_id: datetime.fromisoformat(due) for omnimessage_id, due in self.times.items()}

    def is_live(self) -> bool:
        """Return whether a message is known to be scheduled that has not gone out yet."""
        now, times = datetime.now(timezone.utc), self.known_times()
        return any(item in times and times[item] > now for item in self.live)

    def forget_past_doubts(self) -> None:
        """Drop the times that have passed: those messages have gone out, or never existed."""
        now = datetime.now(timezone.utc)
        self.in_doubt = [due for due in self.in_doubt if datetime.fromisoformat(due) > now]


class HeartbeatStore:
    """The Airflow Variable that holds the state between the beats.

    :param about: what the messages are for; the variable's description.
    """

    def __init__(self, variable: str, log: Logger, about: str = "the heartbeat") -> None:
        self.variable = variable
        self._log = log
        self._about = about

    def read(self) -> HeartbeatState:
        """Return the stored state; an empty one if there is none, or if it cannot be read."""
        value = Variable.get(self.variable, None)
        try:
            return HeartbeatState.read(json.loads(value)) if value else HeartbeatState()
        except (ValueError, TypeError, AttributeError):
            self._log.warning("Variable %s does not hold the state of %s; replacing it", self.variable, self._about)
            return HeartbeatState()

    def write(self, state: HeartbeatState) -> None:
        """Store the state."""
        value = json.dumps(state.as_dict())
        Variable.set(self.variable, value, description=DESCRIPTION.format(self._about))

    def write_patiently(self, state: HeartbeatState) -> None:
        """Store the state; if that fails, try again a few times, since it holds the id of a scheduled message."""
        for pause in STORE_PAUSES:
            try:
                self.write(state)
            except Exception as error:
                self._log.warning("Variable %s could not be written, trying again: %s", self.variable, error)
                time.sleep(pause)
            else:
                return
        self.write(state)


class Beat:
    """One beat.

    :param tags: of the metrics.
    :param posts: requests, at most, for one message whose response is lost. More than one if no other message stands
        meanwhile: two are better than none.
    """

    def __init__(
        self, hook: OmnimessageHook, store: HeartbeatStore, log: Logger, tags: Mapping[str, str], *, posts: int = 1
    ) -> None:
        self._posts = posts
        self._hook = hook
        self._store = store
        self._log = log
        self._tags = tags
        self._state = store.read()
        self._state.dag_id = tags["dag_id"]
        self._report_doubts()

    def run(
        self,
        drafts: Sequence[dict[str, Any]],
        due: TimeToSend,
        *,
        steps: Sequence[tuple[Notice, dict[str, Any]]] = (),
        expected: datetime | None = None,
    ) -> list[str]:
        """Schedule the next messages, cancel the last ones, and return the ids that are scheduled now.

        :param drafts: one body for each recipient, with its ``time_to_send``.
        :param due: when they go out.
        :param steps: of the escalation, each with its body. One that cannot be scheduled does not fail the beat.
        :param expected: the time of the run that they wait for.
        """
        self._clean_up()
        scheduled: list[str] = []
        try:
            for draft in drafts:
                scheduled.append(self._schedule(draft))
        except Exception:
            if self._state.live:
                # the messages of the last beat are still scheduled, so those of this one are too many
                if self._state.left:
                    self._log.error(
                        "This beat failed: its own messages are cancelled, those of the last beat stay scheduled"
                    )
                self._state.left = self._cancel(self._state.left)
            else:
                # some recipients are better than none; the next try cancels and schedules anew
                self._state.expected = expected.isoformat() if expected is not None else None
            self._store.write(self._state)
            raise
        for notice, draft in steps:
            try:
                scheduled.append(self._schedule(draft))
            except OmnimessageError as error:
                self._log.error("No %s for %s: %s", notice, mask_number(draft["to"]), error)
        self._log.info("The message goes out at %s unless it is cancelled: %s", due, ", ".join(scheduled))
        # Swap first, cancel second: a beat that is killed in between leaves a live message to the next one.
        self._state.live, self._state.left = scheduled, self._state.live
        self._state.expected = expected.isoformat() if expected is not None else None
        self._store.write(self._state)
        self._state.left = self._cancel(self._state.left)
        self._store.write(self._state)
        if self._state.left:
            self._log.warning("Not cancelled yet; the next beat tries again: %s", ", ".join(self._state.left))
        return scheduled

    def end(self) -> list[str]:
        """Cancel all messages, and return the ids that may still be scheduled. The next beat tries those again."""
        self._state.left += [item for item in self._state.live if item not in self._state.left]
        self._state.live, self._state.expected = [], None
        # first, so that a beat that is killed in between leaves nothing that nobody cancels
        self._store.write(self._state)
        if self._state.left:
            self._state.left = self._cancel(self._state.left)
            self._store.write(self._state)
        return self._state.left

    def _clean_up(self) -> None:
        """Cancel what earlier beats left behind, so that there are never more than two messages."""
        if not self._state.left:
            return
        errors: list[OmnimessageError] = []
        self._state.left = self._cancel(self._state.left, errors)
        self._store.write(self._state)
        if errors:
            self._log.error(
                "Not scheduling a new message: %s could not be cancelled, and another would add a false alarm",
                ", ".join(self._state.left),
            )
            raise errors[0]

    def _schedule(self, draft: dict[str, Any]) -> str:
        doubt = str(draft["time_to_send"])
        self._state.in_doubt.append(doubt)
        self._store.write(self._state)
        for attempt in range(1, self._posts + 1):
            try:
                omnimessage_id = self._hook.post(draft).omnimessage_id
                break
            except OmnimessageError as error:
                if not error.maybe_processed:
                    self._state.in_doubt.remove(doubt)
                    raise
                self._report_doubts()
                if attempt == self._posts:
                    raise
        metrics.count("scheduled", self._tags)
        if attempt == 1:
            self._state.in_doubt.remove(doubt)
        # at once, so that the next beat finds what this one does not live to cancel
        self._state.left.append(omnimessage_id)
        self._state.times[omnimessage_id] = doubt
        self._store.write_patiently(self._state)
        return omnimessage_id

    def _report_doubts(self) -> None:
        self._state.forget_past_doubts()
        for due in self._state.in_doubt:
            self._log.warning(
                "The response to a request was lost. If Messente accepted its message, it goes out at %s and cannot be "
                "cancelled from here, since its id is unknown: look for it in Messente's dashboard",
                due,
            )

    def _cancel(self, ids: Sequence[str], errors: list[OmnimessageError] | None = None) -> list[str]:
        """Cancel, and return the ids that may still be scheduled."""
        left = []
        outcomes = cancel_each(
            self._hook,
            ids,
            times=self._state.known_times(),
            log=self._log,
            tags=self._tags,
            seconds=self._hook.seconds_left,
        )
        for outcome in outcomes:
            if isinstance(outcome.error, InvalidInputError) and outcome.was_tried:
                self._log.warning("Variable %s holds an invalid id: %s", self._store.variable, outcome.error)
            elif outcome.error is not None:
                self._log.warning("Not cancelled: %s", outcome)
                left.append(outcome.omnimessage_id)
                if errors is not None:
                    errors.append(outcome.error)
            elif outcome.cancellation is not None and outcome.cancellation.result is CancelResult.ALREADY_SENT:
                self._log.warning("The heartbeat is back; %s was sent in the meantime", outcome.omnimessage_id)
            elif not outcome.is_cancelled:
                self._log.warning("%s", outcome)
        return left
