"""The commands and their options. Airflow reads this module at every start of ``airflow``, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

HELP = "Send, schedule, cancel and follow messages (SMS, Viber, WhatsApp, RCS) through Messente"

EXIT_CODES = """
exit codes: 0 done; 1 a message was not delivered, rows were rejected, or doctor found a problem; 2 wrong usage or
bad input; 3 credentials rejected; 4 no such message, or too late to cancel; 5 Messente was not reached or is rate
limiting, nothing was sent, try again later; 6 no response: it may have been done, so check before you repeat it;
7 timed out
"""

_MODULE = "airflow_provider_omnimessage.cli"


def get_commands() -> list[GroupCommand]:
    """Return the command group ``omnimessage`` for Airflow 3.2 and newer."""
    from airflow.cli.cli_config import GroupCommand

    commands = (*_message_commands(), *_service_commands())
    return [GroupCommand(name="omnimessage", help=HELP, epilog=EXIT_CODES, subcommands=commands)]


def _message_commands() -> Iterator[ActionCommand]:
    message, every = _message_args(), _every_arg()
    ids = _arg("omnimessage_id", help="One or more ids", nargs="+")
    yield _command("send", "Send a message now", "messages.send", *message, *every)
    yield _command(
        "schedule",
        "Schedule a message at Messente, which sends it even if Airflow is down by then",
        "messages.schedule",
        *message,
        *_time_args(),
        *every,
    )
    yield _command(
        "reschedule",
        "Replace a scheduled message by one with another time, or other messages",
        "messages.reschedule",
        _arg("omnimessage_id", help="The message to replace"),
        _arg(
            "--order",
            help="cancel_first: never two messages; schedule_first: never none (default: %(default)s)",
            choices=("cancel_first", "schedule_first"),
            default="cancel_first",
        ),
        *message,
        *_time_args(),
        *every,
    )
    when, _, zone = _time_args()
    yield _command(
        "estimate",
        "Check a file of recipients, and show what sending to them would cost; nothing is sent",
        "estimate.estimate",
        *_estimate_args(),
        *message[2:8],
        when,
        zone,
        *every,
    )
    yield _command("cancel", "Cancel messages that are still scheduled", "messages.cancel", ids, *every)
    yield _command("status", "Show the status of messages, by channel", "messages.status", ids, *every)
    yield _command(
        "watch",
        "Follow messages until each is delivered or has failed; progress goes to stderr",
        "watch.watch",
        ids,
        _arg("--interval", help="Seconds between polls (default: %(default)s)", type=float, default=5.0),
        _arg("--timeout", help="Seconds after which to give up (default: %(default)s)", type=float, default=600.0),
        *every,
    )


def _service_commands() -> Iterator[ActionCommand]:
    from airflow.cli.cli_config import ARG_VERBOSE

    yield _command(
        "doctor",
        "Check versions, connection, network and credentials, and print how to fix each problem",
        "doctor.run",
        _arg(
            "--push",
            help="Check instead whether delivery reports arrive: post one to push_url, and read it back",
            action="store_true",
        ),
        *_every_arg(),
    )
    yield _command(
        "receiver",
        "Run the receiver for delivery reports from Messente",
        "receiver.run",
        *_receiver_args(),
        ARG_VERBOSE,
    )
    yield _command("alerts", "List the alerts that are scheduled now, of all DAGs", "alerts.alerts", *_every_arg())
    yield _command(
        "disarm",
        "Cancel all alerts of a DAG that are scheduled now, before you pause or remove it",
        "alerts.disarm",
        _arg("dag_id", help="The id of the DAG"),
        *_every_arg(),
    )
    yield _command("sandbox", "Run the sandbox, a local Messente", "sandbox.sandbox", *_sandbox_args())


def _time_args() -> tuple[Arg, ...]:
    return (
        _arg("--time-to-send", help="When: an ISO 8601 date and time such as 2026-11-24T09:00, or with an offset"),
        _arg("--in", help="When, from now: 90s, 30m, 2h or 1d", dest="from_now", metavar="SPAN"),
        _arg(
            "--timezone",
            help="Time zone of a time without an offset or 'recipient' (default: the connection's, else UTC)",
        ),
    )


def _command(name: str, about: str, function: str, *args: Arg) -> ActionCommand:
    from airflow.cli.cli_config import ActionCommand, lazy_load_command

    return ActionCommand(
        name=name, help=about, func=lazy_load_command(f"{_MODULE}.{function}"), args=args, epilog=EXIT_CODES
    )


def _every_arg() -> tuple[Arg, ...]:
    from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE

    connection = _arg("--conn-id", help="Airflow connection (default: %(default)s)", default="omnimessage_default")
    return connection, ARG_OUTPUT, ARG_VERBOSE


def _arg(*flags: str, **options: object) -> Arg:
    from airflow.cli.cli_config import Arg

    return Arg(flags, **options)  # type: ignore[no-untyped-call]


def _message_args() -> tuple[Arg, ...]:
    return (
        _arg("--to", help="The recipient in E.164 format; stays in the shell's history, unlike a prompt or a file"),
        _arg("--to-file", help="Read the recipient from a file; '-' is stdin", metavar="FILE"),
        _arg("--text", help="The text; stays in the shell's history, unlike a prompt or a file"),
        _arg("--text-file", help="Read the text from a file; '-' is stdin", metavar="FILE"),
        _arg(
            "--messages-file",
            help="Read the messages from a file instead, as JSON, one for each channel; '-' is stdin",
            metavar="FILE",
        ),
        _arg(
            "--channel",
            help="Channels for the text, in the order in which they are tried (default: sms)",
            nargs="+",
            choices=("sms", "viber", "whatsapp", "rcs"),
            default=("sms",),
        ),
        _arg("--ttl", help="Seconds after which the next channel is tried", type=int),
        _arg("--sender", help="The sender (default: the connection's, else the account's)"),
        _arg(
            "--window",
            help="When it may be sent, such as '09:00-20:00; days=mon-fri; timezone=recipient' (default: the "
            "connection's); outside of it, it is scheduled for the next time in it",
        ),
        _unknown_zone_arg(),
        _arg("--dlr-url", help="Where Messente posts delivery reports"),
        _arg("--text-store", help="How Messente keeps the text", choices=("plaintext", "sha256", "nostore")),
        _arg("--priority", help="low, regular or high", choices=("low", "regular", "high")),
    )


def _unknown_zone_arg() -> Arg:
    return _arg(
        "--on-unknown-zone",
        help="If the zone of a recipient counts and is unknown: fail, drop (send them nothing), or the zone to use "
        "(default: %(default)s)",
        default="fail",
    )


def _estimate_args() -> tuple[Arg, ...]:
    return (
        _arg("file", help="Recipients (.csv, .jsonl); without a text, whole messages (.jsonl)", metavar="FILE"),
        _arg("--prices", help="Prices of SMS parts by country prefix: a .json or .csv file", metavar="FILE"),
        _unknown_zone_arg(),
        _arg("--window", help="When messages may be sent (default: the connection's)"),
    )


def _receiver_args() -> tuple[Arg, ...]:
    return (
        _arg("--host", help="The address to listen on (default: %(default)s)", default="127.0.0.1"),
        _arg("--port", help="The port; 0 picks a free one (default: %(default)s)", type=int, default=8027),
        _arg(
            "--database",
            help="SQLAlchemy URL (default: [omnimessage] receiver_database, or else Airflow's metadata database)",
            metavar="URL",
        ),
        _arg("--announce", help="Write url and pid to this file as JSON once it listens", metavar="FILE"),
    )


def _sandbox_args() -> tuple[Arg, ...]:
    return (
        _arg("--host", help="The address to listen on (default: 127.0.0.1)"),
        _arg("--port", help="0 picks a free one (default: 8025)", type=int),
        _arg("--username", help="The API username (default: sandbox)"),
        _arg("--password", help="The API password (default: sandbox)"),
        _arg("--delivery-seconds", help="How long a channel takes (default: 2)", type=float),
        _arg("--announce", help="Write url, inbox and pid to this file as JSON once it listens", metavar="FILE"),
    )
