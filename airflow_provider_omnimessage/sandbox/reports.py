"""Posts delivery reports to ``dlr_url``: signed, in order, each once, and with the faults that a test asks for."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from datetime import datetime, timedelta
from typing import Any, Final

from airflow_provider_omnimessage.sandbox.clock import Clock
from airflow_provider_omnimessage.sandbox.messages import new_id
from airflow_provider_omnimessage.sandbox.posting import PostResult, SignedPoster, sign
from airflow_provider_omnimessage.sandbox.report_faults import ReportFaults
from airflow_provider_omnimessage.sandbox.simulation import Report, Simulation

FORGED_KEY: Final = "not the password of any account"


class ReportPoster:
    """Posts the reports on one message one after the other, and those on different messages in parallel.

    :param simulation: produces the reports and keeps the results.
    :param clock: the sandbox's clock.
    :param faults: what goes wrong.
    :param poster: posts the reports.
    :param password: the API password, which signs them.
    """

    def __init__(
        self, simulation: Simulation, clock: Clock, faults: ReportFaults, poster: SignedPoster, password: str
    ) -> None:
        self._simulation = simulation
        self._clock = clock
        self._faults = faults
        self._poster = poster
        self._password = password
        self._queues: dict[str, deque[Report]] = {}
        self._reordered: dict[str, Report] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def post_all(self, outbox: deque[Report]) -> None:
        """Empty the outbox and start posting.

        :param outbox: reports in the order of the status changes.
        """
        while outbox:
            report = outbox.popleft()
            posted = [report] if report.was_held else self._with_fault(report)
            if posted:
                held = self._reordered.pop(report.message.omnimessage_id, None)
                self._enqueue([*posted, *([held] if held else [])])

    def _with_fault(self, report: Report) -> list[Report]:
        """Return what to post now in place of the report."""
        fault = self._faults.take(report.body["status"])
        if fault is None:
            return [report]
        report = report._replace(fault=fault.fault)
        if fault.fault == "doubled":
            return [report, report]
        if fault.fault == "wrong_signature":
            return [report._replace(key=FORGED_KEY)]
        if fault.fault == "old_password":
            return [report._replace(key=fault.password)]
        if fault.fault == "dropped":
            self._record(report, self._clock.now, PostResult(None, "not posted"))
            return []
        held = report._replace(was_held=True)
        due = self._clock.now + timedelta(seconds=fault.seconds or 0)
        if fault.fault == "reordered":
            if report.message.omnimessage_id in self._reordered:
                return [report]  # it overtakes the one that waits
            self._reordered[report.message.omnimessage_id] = held
            self._simulation.schedule(due, self._release_reordered, held)
        else:
            self._simulation.schedule(due, lambda late, _: self._simulation.outbox.append(late), held)
        return []

    def _release_reordered(self, held: Report, _: datetime) -> None:
        """Post a report that no other report on the same message has followed."""
        if self._reordered.get(held.message.omnimessage_id) is held:
            del self._reordered[held.message.omnimessage_id]
            self._simulation.outbox.append(held)

    def _enqueue(self, reports: list[Report]) -> None:
        omnimessage_id = reports[0].message.omnimessage_id
        if omnimessage_id in self._queues:
            self._queues[omnimessage_id].extend(reports)
            return
        self._queues[omnimessage_id] = deque(reports)
        task = asyncio.get_running_loop().create_task(self._post_queue(omnimessage_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Wait until nothing is being posted."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def forget(self) -> None:
        """Drop all reports. One that is being posted still arrives, but its result is not kept."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._queues.clear()
        self._reordered.clear()

    async def _post_queue(self, omnimessage_id: str) -> None:
        queue = self._queues[omnimessage_id]
        while queue:
            report = queue.popleft()
            started = self._clock.now
            body = json.dumps(report.body).encode()
            key = self._password if report.key is None else report.key
            result = await self._poster.post(report.message.body["dlr_url"], body, sign(body, key))
            self._record(report, started, result)
        del self._queues[omnimessage_id]

    def _record(self, report: Report, started: datetime, result: PostResult) -> None:
        self._simulation.record_post(
            report.message,
            {
                "at": started.isoformat(),
                "url": report.message.body["dlr_url"],
                "status": report.body["status"],
                "fault": report.fault,
                "response": result.response,
                "problem": result.problem,
            },
        )


def reply_body(
    now: datetime, *, sender: str, recipient: str, text: str, channel: str, msg_id: str | None
) -> dict[str, Any]:
    """Return an inbound message as Messente posts it.

    :param now: the sandbox's time.
    :param sender: the phone that replies.
    :param recipient: the number or short code that it replies to.
    :param text: the reply.
    :param channel: such as ``sms``.
    :param msg_id: repeats an earlier reply; default: a new id.
    """
    return {
        "msg_id": msg_id or new_id(),
        "sub_msg_id": new_id(),
        "channel": channel,
        "recipient": recipient,
        "time": now.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
        "text": text,
        "sender": sender,
    }
