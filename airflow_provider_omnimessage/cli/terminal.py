"""How a command ends: what it prints, and an exit code that a script can act on."""

from __future__ import annotations

import functools
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
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
    """The exit codes."""

    DONE = 0
    NOT_DELIVERED = 1
    WRONG_USE = 2
    CREDENTIALS = 3
    NOT_FOUND = 4
    COME_AGAIN = 5
    MAYBE_DONE = 6
    TIME_IS_UP = 7


def exit_code(error: OmnimessageError, *, changes_something: bool) -> Exit:
    """
    Choose the exit code for an error.

    :param error: what a call raised.
    :param changes_something: whether the call, if it was carried out all the same, must not be made again unseen.
    """
    if isinstance(error, (InvalidInputError, RejectedError)):
        return Exit.WRONG_USE
    if isinstance(error, AuthenticationError):
        return Exit.CREDENTIALS
    if isinstance(error, NotFoundError):
        return Exit.NOT_FOUND
    if changes_something and error.maybe_processed:
        return Exit.MAYBE_DONE
    if error.may_pass:
        return Exit.COME_AGAIN
    return Exit.WRONG_USE if isinstance(error, ApiError) else Exit.NOT_DELIVERED


def command(changes_something: bool = False) -> Callable[[Callable[[Namespace], Exit]], Callable[[Namespace], None]]:
    """
    Make a function a command: without log lines in its output, and with an exit code.

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
                    tell(str(error))
                    code.append(exit_code(error, changes_something=changes_something))

            try:
                suppress_logs_and_warning(quietly)(args)
            except KeyboardInterrupt:
                sys.exit(130)
            sys.exit(int(code[0]))

        return run

    return decorate


def tell(*lines: str) -> None:
    """
    Say something to the person at the terminal, beside the output.

    :param lines: what.
    """
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def show(rows: Sequence[dict[str, Any]], output: str) -> None:
    """
    Print rows as Airflow's own commands do.

    :param rows: all with the same keys.
    :param output: ``table``, ``json``, ``yaml`` or ``plain``.
    """
    from airflow.cli.simple_table import AirflowConsole

    for_people = output in ("table", "plain")
    AirflowConsole().print_as(
        data=[{key: "" if value is None and for_people else value for key, value in row.items()} for row in rows],
        output=output,
    )


class TerminalHook(OmnimessageHook):
    """A hook whose connection comes from where the deployment keeps it: no task is there to ask through."""

    @classmethod
    def get_connection(cls, conn_id: str) -> Any:
        """
        Read a connection from the environment, a secrets backend or Airflow's database.

        :param conn_id: which.
        :raises InvalidInputError: where there is none.
        """
        from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]
        from airflow.models.connection import Connection

        try:
            return Connection.get_connection_from_secrets(conn_id)
        except AirflowNotFoundException:
            variable = f"AIRFLOW_CONN_{conn_id.upper()}"
            if os.environ.get(variable):
                # Airflow looks on where it cannot read one, and says so in a log that a terminal does not show
                raise InvalidInputError.of(
                    "conn-id", f"{variable} is set, and is neither JSON nor a URI; compare its quotes and brackets"
                ) from None
            raise InvalidInputError.of(
                "conn-id",
                f"there is no connection '{conn_id}'; add one of type omnimessage, or name another with --conn-id",
            ) from None
