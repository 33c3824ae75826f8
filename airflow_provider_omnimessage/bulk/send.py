"""Sends what was checked, batch by batch, and remembers each before and after, so that nobody gets two."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.api.calls import Accepted, NotAccepted
from airflow_provider_omnimessage.api.errors import LostResponseError, OmnimessageError, RejectedError
from airflow_provider_omnimessage.bulk.memory import Batch
from airflow_provider_omnimessage.bulk.results import RowResult

if TYPE_CHECKING:
    from airflow_provider_omnimessage.bulk.memory import BulkMemory
    from airflow_provider_omnimessage.bulk.results import Results
    from airflow_provider_omnimessage.bulk.rows import CheckedRow, Spool
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
    from airflow_provider_omnimessage.tasks.parallel import Progress

#: So many batches in a row without an answer, and no further one is posted: each would only be one more doubt.
DOUBTS_IN_A_ROW = 2


@dataclass
class _Posting:
    """One batch under way: its rows, what became of each, and which are posted."""

    number: int
    lines: list[CheckedRow]
    #: the result of each line; ``None`` while it is open
    results: list[RowResult | None]
    #: rows that can be sent, each with its index in ``lines``: the positions that a :class:`Batch` counts
    sendable: list[int]
    before: Batch | None
    to_post: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    moments: dict[int, str | None] = field(default_factory=dict)
    intent: Batch | None = None
    answer: Future[list[Accepted | NotAccepted]] | None = None

    @property
    def rows(self) -> str:
        """Name it for people."""
        return f"Batch {self.number:,} (rows {self.lines[0].row:,} to {self.lines[-1].row:,})"


class BulkSender:
    """
    The sending of one task.

    :param hook: posts.
    :param memory: of this task, where there is one.
    :param results: takes what became of each row, in their order.
    :param fingerprints: of each batch's recipients.
    :param on_past: what to do with a row whose moment has gone by.
    :param at_least_once: whether a second message is better than none.
    :param max_tries: the task's.
    :param now: when this try began to check: by it is judged which moments have gone by.
    :param parallel: calls under way at a time.
    :param progress: told how many rows are through.
    :param log: the task's.
    """

    def __init__(
        self,
        hook: OmnimessageHook,
        memory: BulkMemory | None,
        results: Results,
        *,
        fingerprints: list[str],
        on_past: str,
        at_least_once: bool,
        max_tries: int,
        now: datetime,
        parallel: int,
        progress: Progress,
        log: Any,
    ) -> None:
        self._hook = hook
        self._memory = memory
        self._results = results
        self._fingerprints = fingerprints
        self._on_past = on_past
        self._at_least_once = at_least_once
        self._max_tries = max_tries
        self._now = now
        self._parallel = parallel
        self._progress = progress
        self._log = log
        self._window: deque[_Posting] = deque()
        self._taken = 0
        self._done = 0
        self._doubts_in_a_row = 0
        #: why nothing more is posted
        self.stop: BaseException | None = None
        #: the first answer that was lost
        self.lost: OmnimessageError | None = None
        self.doubts: list[str] = []
        self.scheduled = self.sent = 0

    def run(self, spool: Spool, batch_size: int) -> None:
        """
        Post what is not known to be accepted, as the guarantee says. What cannot be posted is told in the results.

        :param spool: the rows that were checked.
        :param batch_size: rows in a batch.
        :raises BaseException: what interrupted it, after everything was told: nothing is under way any more.
        """
        # made here: the threads are to share it
        if self.stop is None:
            self._hook.get_conn()
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="omnimessage") as pool:
            try:
                self._take(spool, batch_size, pool)
            except BaseException as error:
                # Airflow's own end of a task, such as a timeout: what is under way comes to its end, and is told
                self.stop = error
                try:
                    self._take(spool, batch_size, pool)
                finally:
                    self._settle(0)  # whatever breaks now: no answer that is under way is lost
                raise

    def _take(self, spool: Spool, batch_size: int, pool: ThreadPoolExecutor) -> None:
        for number, lines in enumerate(spool.batches(batch_size), 1):
            if number <= self._taken:
                continue
            posting = self._judge(number, lines)
            self._window.append(posting)
            self._taken = number
            if posting.to_post:
                self._begin(posting, pool)
            self._settle(self._parallel - 1)
        self._settle(0)

    def _judge(self, number: int, lines: list[CheckedRow]) -> _Posting:
        """Tell what is known of each row, and which are to be posted."""
        before = self._memory.batch(number) if self._memory else None
        sendable = [index for index, line in enumerate(lines) if not line.problem]
        posting = _Posting(number, lines, [None] * len(lines), sendable, before)
        for index, line in enumerate(lines):
            if line.problem:
                posting.results[index] = RowResult(line.row, "invalid", error=line.problem)
        if before is None:
            for position, index in enumerate(sendable):
                self._judge_moment(posting, position, index)
            return posting
        again = set(before.to_post(self._max_tries, at_least_once=self._at_least_once))
        refused, unknown = before.refused(), set(before.unknown)
        for position, index in enumerate(sendable):
            line, known = lines[index], before.ids[position]
            if known:
                moment = None if self._is_past(line, datetime.fromisoformat(before.at)) else line.moment or None
                posting.results[index] = RowResult(line.row, "accepted", known, moment)
            elif position not in again and position in unknown:
                posting.results[index] = RowResult(line.row, "unknown", error=before.doubt)
            elif position not in again and position in refused:
                posting.results[index] = RowResult(line.row, "refused", error=refused[position])
            else:
                self._judge_moment(posting, position, index)
        if unknown - again:
            self.doubts.append(f"{posting.rows}: {before.doubt}")
        return posting

    def _judge_moment(self, posting: _Posting, position: int, index: int) -> None:
        line = posting.lines[index]
        if line.moment and self._is_past(line, self._now):
            if self._on_past != "send_now":
                state: Any = "skipped" if self._on_past == "skip" else "invalid"
                reason = f"time_to_send: {line.moment} has gone by"
                posting.results[index] = RowResult(line.row, state, error=reason)
                return
            line = line._replace(moment="")
        posting.to_post.append(position)
        posting.bodies.append(line.whole)
        posting.moments[position] = line.moment or None

    @staticmethod
    def _is_past(line: CheckedRow, at: datetime) -> bool:
        return bool(line.moment) and _moment(line.moment) <= at

    def _begin(self, posting: _Posting, pool: ThreadPoolExecutor) -> None:
        if self.stop is not None:
            self._not_sent(posting, self.stop)
            return
        before = posting.before
        asked = set(posting.to_post)
        if before and asked & set(before.unknown):
            is_cleared = self._max_tries > before.max_tries
            self._log.warning(
                "%s: %s messages may have been accepted before; they are posted again, as %s",
                posting.rows,
                f"{len(asked & set(before.unknown)):,}",
                "the task was cleared" if is_cleared else "delivery_guarantee='at_least_once' says",
            )
        at = self._now.isoformat(timespec="microseconds")
        posting.intent = Batch(
            fingerprint=self._fingerprints[posting.number - 1],
            max_tries=self._max_tries,
            at=at,
            ids=list(before.ids) if before else [None] * len(posting.sendable),
            errors=_without(before.errors, asked) if before else {},
            unknown=sorted(asked | set(before.unknown if before else ())),
            doubt=f"an earlier try was about to post it at {at[:19]}, and ended before it knew the answer",
        )
        if self._memory:
            try:
                self._memory.keep_batch(posting.number, posting.intent)
            except Exception as error:
                self.stop = error
                self._not_sent(posting, error)
                return
        posting.answer = pool.submit(self._hook.post_bulk, posting.bodies)

    def _settle(self, most: int) -> None:
        """Wait until no more than so many calls are under way, and pass on what is through, in order."""
        while True:
            under_way = [each for each in self._window if each.answer is not None]
            for posting in under_way:
                if posting.answer is not None and posting.answer.done():
                    self._take_in(posting)
            while self._window and None not in self._window[0].results:
                self._pass_on(self._window.popleft())
            waiting = [each.answer for each in self._window if each.answer is not None]
            if len(waiting) <= most and (most or not self._window):
                return
            if not waiting:  # interrupted before it was posted
                for posting in self._window:
                    self._not_sent(posting, self.stop or InterruptedError())
                continue
            wait(waiting, return_when=FIRST_COMPLETED)

    def _take_in(self, posting: _Posting) -> None:
        answer, posting.answer = posting.answer, None
        assert answer is not None
        intent = posting.intent
        assert intent is not None
        error = answer.exception()
        if error is None:
            self._doubts_in_a_row = 0
            self._keep(posting, self._read(posting, intent, answer.result()))
        elif isinstance(error, RejectedError):
            self._doubts_in_a_row = 0
            self._log.warning("%s: %s", posting.rows, error)
            refused: list[Accepted | NotAccepted] = [NotAccepted(str(error))] * len(posting.to_post)
            self._keep(posting, self._read(posting, intent, refused))
        elif not isinstance(error, OmnimessageError):  # nobody knows how far it came
            self.stop = self.stop or error
            self._doubt(posting, intent, LostResponseError(f"bulk send: broke off: {error!r}"))
        elif error.maybe_processed:
            self._doubt(posting, intent, error)
        else:
            self.stop = self.stop or error
            self._log.warning("%s was not sent: %s", posting.rows, error)
            self._unkeep(posting)
            self._not_sent(posting, error)

    def _read(self, posting: _Posting, intent: Batch, answers: list[Accepted | NotAccepted]) -> Batch:
        """Take in the answer to each row, by position."""
        ids, unknown = list(intent.ids), set(intent.unknown)
        errors = {reason: list(positions) for reason, positions in intent.errors.items()}
        doubt = intent.doubt
        for position, answer in zip(posting.to_post, answers, strict=True):
            index = posting.sendable[position]
            row = posting.lines[index].row
            if isinstance(answer, Accepted):
                unknown.discard(position)
                ids[position] = answer.omnimessage_id
                moment = posting.moments[position]
                posting.results[index] = RowResult(row, "accepted", answer.omnimessage_id, moment)
                if moment:
                    self.scheduled += 1
                else:
                    self.sent += 1
            elif answer.maybe_processed:
                doubt = answer.reason
                posting.results[index] = RowResult(row, "unknown", error=answer.reason)
            else:
                unknown.discard(position)
                errors.setdefault(answer.reason, []).append(position)
                posting.results[index] = RowResult(row, "refused", error=answer.reason)
        if unknown & set(posting.to_post):
            self.doubts.append(f"{posting.rows}: {doubt}")
        return replace(intent, ids=ids, errors=errors, unknown=sorted(unknown), doubt=doubt)

    def _doubt(self, posting: _Posting, intent: Batch, error: OmnimessageError) -> None:
        self.lost = self.lost or error
        self._log.warning("%s: %s", posting.rows, error)
        self.doubts.append(f"{posting.rows}: {error}")
        for position in posting.to_post:
            index = posting.sendable[position]
            posting.results[index] = RowResult(posting.lines[index].row, "unknown", error=str(error))
        self._keep(posting, replace(intent, doubt=str(error)))
        self._doubts_in_a_row += 1
        if self._doubts_in_a_row >= DOUBTS_IN_A_ROW and self.stop is None:
            self._log.warning("%d answers were lost in a row; nothing more is posted now", DOUBTS_IN_A_ROW)
            self.stop = error

    def _not_sent(self, posting: _Posting, error: BaseException) -> None:
        for position in posting.to_post:
            index = posting.sendable[position]
            if posting.results[index] is None:
                posting.results[index] = self._left(posting, position, str(error) or type(error).__name__)

    def _left(self, posting: _Posting, position: int, reason: str) -> RowResult:
        """Tell of a row that this try did not post what is known of it from before."""
        row, before = posting.lines[posting.sendable[position]].row, posting.before
        if before and position in before.unknown:
            return RowResult(row, "unknown", error=before.doubt)
        refused = before.refused().get(position) if before else None
        return RowResult(row, "refused", error=refused) if refused else RowResult(row, "not_sent", error=reason)

    def _keep(self, posting: _Posting, batch: Batch) -> None:
        if self._memory is None:
            return
        try:
            self._memory.keep_batch(posting.number, batch)
        except Exception:
            # What was posted is posted. To stop now would put it in doubt for nothing.
            self._log.exception("%s could not be stored: a retry will take it for a doubt", posting.rows)

    def _unkeep(self, posting: _Posting) -> None:
        if self._memory is None:
            return
        try:
            if posting.before is None:
                self._memory.forget_batch(posting.number)
            else:
                self._memory.keep_batch(posting.number, posting.before)
        except Exception:
            self._log.exception("%s was not posted, but that could not be stored", posting.rows)

    def _pass_on(self, posting: _Posting) -> None:
        for result in posting.results:
            assert result is not None
            self._results.add(result)
        self._done += len(posting.lines)
        self._progress.at(self._done)


@lru_cache(maxsize=1024)
def _moment(written: str) -> datetime:
    return datetime.fromisoformat(written)


def _without(errors: Mapping[str, list[int]], positions: set[int]) -> dict[str, list[int]]:
    left = {reason: [each for each in found if each not in positions] for reason, found in errors.items()}
    return {reason: found for reason, found in left.items() if found}
