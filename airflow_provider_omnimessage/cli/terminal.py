"""How a command ends: what it prints, and an exit code that a script can act on."""

from __future__ import annotations

import functools
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from airflow_provider_omnimessage.api.errors import (
    ApiError,
    AuthenticationError,
    InvalidInputError,
    NotFoundError,
    OmnimessageError,
    RejectedError,
)
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook


class Exit(IntEnum):
    """The exit codes, from harmless to grave; of several messages, the highest decides."""

    DONE = 0
    NOT_DELIVERED = 1
    USAGE = 2
    CREDENTIALS = 3
    NOT_FOUND = 4
    TRY_LATER = 5
    UNCONFIRMED = 6
    TIMED_OUT = 7


def exit_code(error: OmnimessageError, *, changes_something: bool) -> Exit:
    """Return the exit code for an error.

    :param changes_something: whether it would do harm to repeat the call if it was processed after all.
    """
    if isinstance(error, (InvalidInputError, RejectedError)):
        return Exit.USAGE
    if isinstance(error, AuthenticationError):
        return Exit.CREDENTIALS
    if isinstance(error, NotFoundError):
        return Exit.NOT_FOUND
    if changes_something and error.maybe_processed:
        return Exit.UNCONFIRMED
    if error.may_pass:
        return Exit.TRY_LATER
    return Exit.USAGE if isinstance(error, ApiError) else Exit.NOT_DELIVERED


def command(changes_something: bool = False) -> Callable[[Callable[[Namespace], Exit]], Callable[[Namespace], None]]:
    """Turn a function into a command: no log lines in its output, errors in one line, and an exit code.

    :param changes_something: as :func:`exit_code` takes it.
    """

    def decorate(function: Callable[[Namespace], Exit]) -> Callable[[Namespace], None]:
        @functools.wraps(function)
        def run(args: Namespace) -> None:
            from airflow.utils.cli import suppress_logs_and_warning

            code: list[Exit] = []

            def quietly(args: Namespace) -> None:
                try:
                    code.append(function(args))
                except OmnimessageError as error:
                    print_progress(str(error))
                    code.append(exit_code(error, changes_something=changes_something))

            try:
                suppress_logs_and_warning(quietly)(args)
            except KeyboardInterrupt:
                sys.exit(130)
            sys.exit(int(code[0]))

        return run

    return decorate


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Let a command that runs until it is stopped, and logs, end with one line and an exit code if it cannot start."""
    try:
        yield
    except OmnimessageError as error:
        print_progress(str(error))
        sys.exit(int(exit_code(error, changes_something=False)))


def print_progress(*lines: str) -> None:
    """Print lines for the person at the terminal to stderr, beside the output."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def print_rows(rows: Sequence[dict[str, Any]], output: str) -> None:
    """Print rows as Airflow's own commands do; no rows as an empty list, or in a table as nothing.

    :param rows: all with the same keys.
    :param output: ``table``, ``json``, ``yaml`` or ``plain``.
    """
    from airflow.cli.simple_table import AirflowConsole

    for_people = output in ("table", "plain")
    if for_people and not rows:
        return
    AirflowConsole().print_as(
        data=[{key: "" if value is None and for_people else value for key, value in row.items()} for row in rows],
        output=output,
    )


class TerminalLog:
    """Prints what a task would log."""

    def info(self, message: str, /, *args: object) -> None:
        """Print a fact."""
        print_progress(message % args)

    warning = error = info


class TerminalHook(OmnimessageHook):
    """A hook that reads its connection where the deployment keeps it: there is no task to read it for."""

    @classmethod
    def get_connection(cls, conn_id: str) -> Any:
        """Return a connection from the environment, a secrets backend or Airflow's database.

        :raises InvalidInputError: if there is none.
        """
        from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]
        from airflow.models.connection import Connection

        try:
            return Connection.get_connection_from_secrets(conn_id)
        except AirflowNotFoundException:
            variable = f"AIRFLOW_CONN_{conn_id.upper()}"
            if os.environ.get(variable):
                # Airflow skips one that it cannot read, and says so in a log that a terminal does not show
                raise InvalidInputError.of(
                    "conn-id", f"{variable} is set, but is neither JSON nor a URI; check its quotes and brackets"
                ) from None
            raise InvalidInputError.of(
                "conn-id",
                f"there is no connection '{conn_id}'; add one of type omnimessage, or pass another with --conn-id",
            ) from None
