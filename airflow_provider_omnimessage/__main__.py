"""``python -m airflow_provider_omnimessage``: the command line on every Airflow, also where ``airflow`` has it not."""

from __future__ import annotations

import argparse


def main(argv: list[str] | None = None) -> None:
    """
    Run one command, and exit with its code.

    :param argv: the arguments, by default the command line's.
    """
    from airflow_provider_omnimessage.cli.commands import get_commands

    (group,) = get_commands()
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_omnimessage", description=group.help, epilog=group.epilog
    )
    parsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in group.subcommands:
        its_parser = parsers.add_parser(
            command.name, help=command.help, description=command.help, epilog=command.epilog
        )
        for argument in command.args:
            argument.add_to_parser(its_parser)
        its_parser.set_defaults(func=command.func)
    options = parser.parse_args(argv)
    options.func(options)


if __name__ == "__main__":
    main()
