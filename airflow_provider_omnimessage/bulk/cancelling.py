"""What a cancel task is told to cancel: ids, and the outputs of bulk sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.ids import as_list, checked_id
from airflow_provider_omnimessage.bulk.results import accepted_in, is_result
from airflow_provider_omnimessage.tasks.cancelling import CancelOutcome


@dataclass(frozen=True)
class MessagesToCancel:
    """
    The ids in the ``omnimessage_id`` of a cancel task, each once and in order.

    :param times: when each message is sent, by id, as far as it is known.
    :param invalid: an outcome for each value that is no id.
    :param are_of_bulk: whether the output of a bulk send is among the values.
    """

    ids: list[str]
    times: dict[str, datetime | None]
    invalid: list[CancelOutcome]
    are_of_bulk: bool

    @classmethod
    def read(cls, value: object) -> MessagesToCancel:
        """
        Read one id or bulk result, or a list of them. ``None``, also as a template renders it, is left out.

        :raises InvalidInputError: if ``value`` is a dict, but not the result of a bulk send.
        """
        ids: dict[str, datetime | None] = {}
        at_once = datetime.now(timezone.utc)
        invalid: list[CancelOutcome] = []
        items = [value] if is_result(value) else as_list(value)
        for position, item in enumerate(items):
            if item is None or item in ("None", ""):
                continue
            try:
                if isinstance(item, Mapping) and is_result(item):
                    ids |= {
                        omnimessage_id: datetime.fromisoformat(time) if time else at_once
                        for omnimessage_id, time in accepted_in(item)
                    }
                else:
                    ids.setdefault(checked_id(item), None)
            except InvalidInputError as error:
                invalid.append(CancelOutcome(f"[{position}]", error=error))
        return cls(list(ids), ids, invalid, any(map(is_result, items)))

    def __bool__(self) -> bool:
        return bool(self.ids or self.invalid)
