"""Recipients that depend on the time at which a message goes out: a function, or who is on call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem
from airflow_provider_omnimessage.api.recipients import check_recipients_at_parse, split_recipients


class TimedRecipients(ABC):
    """Recipients that are known for a time only.

    An instance is not callable: Airflow calls what is callable in a templated field with its own arguments.
    """

    @abstractmethod
    def at(self, when: datetime) -> Any:
        """Return the number, or the numbers, for a message that goes out at ``when``.

        :param when: a time with a zone.
        :raises InvalidInputError: if there are none.
        """


class RecipientFunction(TimedRecipients):
    """A user's function ``(datetime) -> number(s)`` as recipients."""

    def __init__(self, function: Callable[[datetime], Any]) -> None:
        self._function = function
        self._name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"

    def at(self, when: datetime) -> Any:
        """Call the function with the time in UTC."""
        return self._function(when.astimezone(timezone.utc))

    def __repr__(self) -> str:
        """Name the function. Airflow's UI shows this, and it is the same at each parse."""
        return f"<function {self._name}>"


class UnknownRecipients(TimedRecipients):
    """
    Recipients of a message that cannot be sent, whatever the time.

    :param field: what is wrong.
    :param reason: why.
    """

    def __init__(self, field: str, reason: str) -> None:
        self._problem = Problem(field, reason)

    def at(self, when: datetime) -> Any:
        """Raise what is wrong."""
        raise InvalidInputError([self._problem])

    def __repr__(self) -> str:
        """Say what is wrong: Airflow's UI shows this."""
        return f"<{InvalidInputError([self._problem])}>"


def as_recipients(to: Any) -> Any:
    """Return ``to`` in the form in which an operator keeps it: a function becomes an object that is not callable."""
    # an XComArg is resolved by Airflow
    return RecipientFunction(to) if callable(to) and not hasattr(to, "iter_references") else to


def check_alert_recipients_at_parse(to: Any) -> None:
    """Raise for what is wrong with an alert's recipients by the time the DAG is parsed.

    :raises InvalidInputError: for constants. A function is called when a message is sent.
    """
    if not isinstance(as_recipients(to), TimedRecipients):
        check_recipients_at_parse(to)


def recipients_at(to: Any, when: datetime) -> tuple[list[str], list[Problem]]:
    """Return the numbers that a message goes to, and what is wrong with the other entries.

    Whatever a user's function raises counts as a problem of this message, so it does not stop other messages.

    :param to: as :func:`as_recipients` returns it, rendered.
    :param when: the time at which the message goes out.
    :raises InvalidInputError: if there is no number at all.
    """
    failures: list[Problem] = []

    def failed(error: Exception) -> Problem:
        return Problem(
            "to",
            f"{to!r} failed for {when:%Y-%m-%d %H:%M %Z} ({type(error).__name__}: {error}); return a number in E.164 "
            "format, or a list of numbers",
        )

    def until_it_fails(entries: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from entries
        except Exception as error:
            failures.append(failed(error))

    try:
        value = to.at(when) if isinstance(to, TimedRecipients) else to
        numbers, problems = split_recipients(until_it_fails(value) if isinstance(value, Iterator) else value)
    except InvalidInputError:
        if failures:
            raise InvalidInputError(failures) from None
        raise
    except Exception as error:
        raise InvalidInputError([failed(error)]) from error
    return numbers, problems + failures
