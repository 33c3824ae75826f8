"""One beat of a heartbeat: schedule the next message before the last one is cancelled, and remember both."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import Variable
from airflow_provider_omnimessage.alerts.alert_task import first_that_may_pass
from airflow_provider_omnimessage.alerts.steps import Notice
from airflow_provider_omnimessage.alerts.variables import fitting_key
from airflow_provider_omnimessage.api.cancel_result import CancelResult
from airflow_provider_omnimessage.api.errors import InvalidInputError, OmnimessageError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.timing import TimeToSend
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.cancelling import cancel_each
from airflow_provider_omnimessage.tasks.memory import fingerprint

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Seconds between the attempts to store the id of a message that is scheduled.
STORE_PAUSES = (1.0, 3.0, 6.0)
#: Name of the message itself in a log line; a step of its escalation is named by its :class:`Notice`.
ALERT = "alert"
#: Description of the variables. The command ``alerts`` finds them by its beginning.
DESCRIPTION = "Messages that are scheduled for {}"


@dataclass
class HeartbeatState:
    """What the beats know of their messages.

    :param live: ids of the last complete beat, one for each recipient.
    :param left: ids that must be cancelled: of earlier beats, or of one that did not finish.
    :param in_doubt: times, ISO 8601 in UTC, at which messages go out whose response was lost: no id is known.
    :param times: when the messages go out, ISO 8601 in UTC, by id; empty in a state that an older version stored.
    :param owners: whose message it is, by id: a fingerprint of the recipient and the step; empty in an older state.
    :param expected: the time, ISO 8601 in UTC, of the run that ``live`` waits for; ``None``: any run, or a beat.
    :param last_run: the newest scheduled run that has started, of a DAG whose next run is awaited: its ``due`` time and
        the ``start`` and ``end`` of its data interval, ISO 8601; empty if none is known.
    :param is_partial: whether a recipient has no message, since Messente did not accept it.
    :param dag_id: the DAG that they are scheduled for.
    """

    live: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    in_doubt: list[str] = field(default_factory=list)
    times: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    expected: str | None = None
    last_run: dict[str, str] = field(default_factory=dict)
    is_partial: bool = False
    dag_id: str | None = None

    @classmethod
    def read(cls, value: Any) -> HeartbeatState:
        """Return the state that was stored, without fields that only a later version knows.

        :raises ValueError: if a time in it has no offset.
        :raises TypeError: if it is anything else.
        """
        names = {one.name for one in fields(cls)}
        if not isinstance(value, Mapping) or (value and names.isdisjoint(value)):
            raise TypeError("not a mapping")
        kept = {name: item for name, item in value.items() if name in names}
        for name in ("live", "left", "in_doubt"):
            if not isinstance(kept.get(name, []), list):
                raise TypeError(f"{name} is not a list")
            kept[name] = [str(item) for item in kept.get(name, [])]
        for name in ("times", "owners", "last_run"):
            kept[name] = {str(key): str(item) for key, item in kept.get(name, {}).items()}
        if not kept["last_run"].keys() >= {"due", "start", "end"}:
            # unknown then: the ids count for more
            kept["last_run"] = {}
        state = cls(**kept)
        expected = [] if state.expected is None else [state.expected]
        known = [*state.in_doubt, *state.times.values(), *state.last_run.values(), *expected]
        if any(datetime.fromisoformat(time).tzinfo is None for time in known):
            raise ValueError("a time without an offset")
        return state

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, with the times and owners of those messages only that are still known."""
        known = {*self.live, *self.left}
        times = {one: due for one, due in self.times.items() if one in known}
        owners = {one: owner for one, owner in self.owners.items() if one in known}
        return {**asdict(self), "times": times, "owners": owners}

    def known_times(self) -> dict[str, datetime]:
        """Return when messages go out, by id."""
        return {omnimessage_id: datetime.fromisoformat(due) for omnimessage_id, due in self.times.items()}

    def is_live(self) -> bool:
        """Return whether a message is known to be scheduled that has not gone out yet."""
        now, times = datetime.now(timezone.utc), self.known_times()
        return any(item in times and times[item] > now for item in self.live)

    def standing(self) -> list[str]:
        """Return the messages of the last beat that have not gone out yet, as far as is known."""
        now, times = datetime.now(timezone.utc), self.known_times()
        return [item for item in self.live if item not in times or times[item] > now]

    def take_over_left(self) -> None:
        """Let messages of a beat that was killed stand if no others do: the newest one for each recipient and step."""
        if self.standing():
            return
        now, times = datetime.now(timezone.utc), self.known_times()
        waiting = [item for item in self.left if item in times and times[item] > now]
        newest = {self.owners[item]: item for item in waiting if item in self.owners}.values()
        self.live = [*self.live, *newest]
        self.left = [item for item in self.left if item not in newest]
        self.is_partial = self.is_partial or bool(newest)

    def forget_past_doubts(self) -> None:
        """Drop the times that have passed: those messages have gone out, or never existed."""
        now = datetime.now(timezone.utc)
        self.in_doubt = [due for due in self.in_doubt if datetime.fromisoformat(due) > now]


class HeartbeatStore:
    """The Airflow Variable that holds the state between the beats.

    :param variable: its name; a long one is shortened, see :func:`fitting_key`.
    :param about: what the messages are for; the variable's description.
    """

    def __init__(self, variable: str, log: Logger, about: str = "the heartbeat") -> None:
        self.variable = fitting_key(variable)
        self._log = log
        self.about = about

    def read(self) -> HeartbeatState:
        """Return the stored state; an empty one if there is none, or if it cannot be read."""
        value = Variable.get(self.variable, None)
        try:
            return HeartbeatState.read(json.loads(value)) if value else HeartbeatState()
        except (ValueError, TypeError, AttributeError):
            self._log.warning("Variable %s does not hold the state of %s; replacing it", self.variable, self.about)
            return HeartbeatState()

    def write(self, state: HeartbeatState) -> None:
        """Store the state."""
        value = json.dumps(state.as_dict())
        Variable.set(self.variable, value, description=DESCRIPTION.format(self.about))

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
        only_missing: bool = False,
        is_partial: bool = False,
    ) -> list[str]:
        """Schedule the next messages, cancel the last ones, and return the ids that are scheduled now.

        A message that cannot be scheduled costs no other one. The last one to that recipient stays scheduled.

        :param drafts: one body for each recipient, with its ``time_to_send``.
        :param due: when they go out.
        :param steps: of the escalation, each with its body. One that cannot be scheduled does not fail the beat.
        :param expected: the time of the run that they wait for.
        :param only_missing: keep the messages of the last beat, and schedule those that it could not.
        :param is_partial: whether a recipient has no draft, because it is invalid.
        :raises OmnimessageError: after everything else is done, if a draft cannot be scheduled.
        """
        self._clean_up()
        last, before = list(self._state.live), self._state.expected
        # stored before the first request, so that no other run than this one cancels what is being scheduled
        self._state.expected = expected.isoformat() if expected is not None else None
        try:
            found, is_new, errors = self._schedule_each([*((ALERT, draft) for draft in drafts), *steps], only_missing)
        except Exception:
            self._give_up(before)
            raise
        if is_new:
            self._log.info("The message goes out at %s unless it is cancelled: %s", due, ", ".join(found))
            # Swap first, cancel second: a beat that is killed in between leaves a live message to the next one.
            self._state.live = found
            self._state.left = [item for item in dict.fromkeys([*self._state.left, *last]) if item not in found]
            self._state.is_partial = is_partial or bool(errors)
            self._store.write(self._state)
            self._state.left = self._cancel(self._state.left)
        elif last:
            self._state.expected = before
        self._store.write(self._state)
        if self._state.left:
            self._log.warning("Not cancelled yet; the next beat tries again: %s", ", ".join(self._state.left))
        if errors:
            raise first_that_may_pass(errors)
        return found

    def _schedule_each(
        self, wanted: Sequence[tuple[Notice | str, dict[str, Any]]], only_missing: bool
    ) -> tuple[list[str], bool, list[OmnimessageError]]:
        """Return what is scheduled now, whether any of it is new, and the errors of the alerts themselves."""
        last = {self._state.owners[item]: item for item in self._state.standing() if item in self._state.owners}
        found: list[str] = []
        is_new = False
        errors: list[OmnimessageError] = []
        for index, (notice, draft) in enumerate(wanted):
            owner = fingerprint({"to": draft["to"], "notice": str(notice)}, self._hook.settings.password)
            if only_missing and owner in last:
                found.append(last[owner])
                continue
            # a recipient whose requests hang must not use up the time of those that follow
            share = (self._hook.seconds_left or self._hook.settings.deadline) / (len(wanted) - index)
            try:
                with self._hook.within(share):
                    found.append(self._schedule(draft, owner))
                is_new = True
            except OmnimessageError as error:
                self._log.error("No %s for %s: %s", notice, mask_number(draft["to"]), error)
                found += [last[owner]] if owner in last else []
                errors += [error] if notice == ALERT else []
        return found, is_new, errors

    def _give_up(self, before: str | None) -> None:
        """End a beat that cannot go on.

        :param before: the time of the run that the messages of the last beat wait for.
        """
        if self._state.standing():
            # those are still scheduled, so the messages of this beat are too many
            if self._state.left:
                self._log.error(
                    "This beat failed: its own messages are cancelled, those of the last beat stay scheduled"
                )
            self._state.expected = before
            self._state.left = self._cancel(self._state.left)
        # else some recipients are better than none; the next try cancels and schedules anew
        self._store.write(self._state)

    def end(self, last_run: dict[str, str] | None = None) -> list[str]:
        """Cancel all messages, and return the ids that may still be scheduled. The next beat tries those again.

        :param last_run: what is stored about the run that has started; default: no change.
        """
        self._state.last_run = last_run if last_run is not None else self._state.last_run
        self._state.left += [item for item in self._state.live if item not in self._state.left]
        self._state.live, self._state.expected, self._state.is_partial = [], None, False
        # without owners, no later beat lets them stand
        self._state.owners = {}
        # first, so that a beat that is killed in between leaves nothing that nobody cancels
        self._store.write(self._state)
        if self._state.left:
            self._state.left = self._cancel(self._state.left)
            self._store.write(self._state)
        return self._state.left

    def _clean_up(self) -> None:
        """Cancel what earlier beats left behind, so that a message that stands is never joined by two others."""
        self._state.take_over_left()
        if not self._state.left:
            return
        errors: list[OmnimessageError] = []
        self._state.left = self._cancel(self._state.left, errors)
        self._store.write(self._state)
        # if none stands, none would be scheduled at all: a false alarm is better
        if errors and self._state.standing():
            self._log.error(
                "Not scheduling a new message: %s could not be cancelled, and another would add a false alarm",
                ", ".join(self._state.left),
            )
            raise errors[0]

    def _schedule(self, draft: dict[str, Any], owner: str) -> str:
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
        self._state.owners[omnimessage_id] = owner
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
                self._log.warning(
                    "%s was sent already, since %s did not come in time", outcome.omnimessage_id, self._store.about
                )
            elif not outcome.is_cancelled:
                self._log.warning("%s", outcome)
        return left
