"""Runs in a clean environment that contains only Airflow and the built wheel, and reports what it saw."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import warnings
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

CONN_TYPE = "omnimessage"
LINK = "Message"
PROVIDER = "airflow-provider-omnimessage"
LISTED = ("hooks", "links", "notifications", "triggers", "widgets", "behaviours")
BY_HAND = "matrix_by_hand"
UNKNOWN = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"

# wide enough for the commands' tables
os.environ["COLUMNS"] = "500"


def main(dags: str, report: str) -> None:
    """
    Tell how the runs of a folder's DAGs have ended, ask Airflow what it knows of the provider, and write it down.

    :param dags: the folder.
    :param report: the JSON file to write.
    """
    bag = dag_bag(dags)
    if bag.import_errors:
        raise SystemExit(str(bag.import_errors))
    summary = {
        "versions": versions(),
        "runs": {dag_id: [describe(dag, run) for run in runs_of(dag_id)] for dag_id, dag in sorted(bag.dags.items())},
        "by_hand": describe(bag.dags[BY_HAND], bag.dags[BY_HAND].test()),
        "due_at_the_deadline": due_at_the_deadline(),
        "form": form(),
        "test": test(),
        "metadata": problems_of_the_metadata(),
        "listed": {
            kind: listed(kind) for kind in ("hooks", "links", "notifications", "triggers", "widgets", "behaviours")
        },
        "described": command("providers", "get", PROVIDER, "--full", "--output", "json"),
        "command_line": command_line(),
    }
    Path(report).write_text(json.dumps(summary))


def versions() -> dict[str, str]:
    """Return which versions run, and from where the provider was imported."""
    import airflow

    import airflow_provider_omnimessage

    return {
        "airflow": airflow.__version__,
        "python": ".".join(map(str, sys.version_info[:2])),
        "provider": airflow_provider_omnimessage.__file__,
    }


def due_at_the_deadline() -> str:
    """Return the error of a switch in a DAG whose cron schedule is due at the switch's deadline."""
    try:
        from airflow.sdk import DAG
    except ImportError:  # Airflow 2
        from airflow.models.dag import DAG
    from airflow_provider_omnimessage.alerts import DeadMansSwitch
    from airflow_provider_omnimessage.api.errors import InvalidInputError

    with DAG("due_at_the_deadline", schedule="0 9 * * *", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
        try:
            DeadMansSwitch("by_nine", to="+37255555555", text="Late", by="09:00", timezone="UTC")
        except InvalidInputError as error:
            return str(error)
    return ""


def problems_of_the_metadata() -> list[str]:
    """Validate the provider's metadata against the schema of this Airflow."""
    import airflow
    from jsonschema import Draft7Validator

    from airflow_provider_omnimessage.provider_info import get_provider_info

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    return [error.message for error in Draft7Validator(schema).iter_errors(get_provider_info())]


def listed(kind: str) -> list[str]:
    """
    Return the lines about the provider of ``airflow providers KIND``.

    :param kind: as ``hooks``.
    """
    lines = command("providers", kind, "--output", "plain").splitlines()
    return [line for line in lines if "omnimessage" in line]


def command(*words: str) -> str:
    """
    Run a command of Airflow's without the seconds that a process of its own takes to start.

    :param words: the arguments of ``airflow``.
    """
    from airflow.cli.cli_parser import get_parser

    options = get_parser().parse_args(words)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        options.func(options)
    return printed.getvalue()


def command_line() -> dict[str, Any]:
    """Schedule a message, cancel it, cancel one that does not exist, and check the connection, each with a command."""
    from airflow.cli.cli_parser import ALL_COMMANDS_DICT, get_parser

    from airflow_provider_omnimessage.__main__ import main as own

    def through_airflow(words: list[str]) -> None:
        options = get_parser().parse_args(["omnimessage", *words])
        options.func(options)

    has_command = "omnimessage" in ALL_COMMANDS_DICT
    to_cancel = through_airflow if has_command else own
    schedule = ["schedule", "--to", "+37255555555", "--text-file", "-", "--in", "1h", "--output", "json"]
    scheduled = ended(own, schedule, stdin="Tere")
    (row,) = json.loads(scheduled["printed"])
    return {
        "has_command": has_command,
        "scheduled": scheduled,
        "omnimessage_id": row["omnimessage_id"],
        "cancelled": ended(to_cancel, ["cancel", row["omnimessage_id"]]),
        "unknown": ended(to_cancel, ["cancel", UNKNOWN]),
        "checked": ended(own, ["doctor", "--output", "json"]),
    }


def ended(run: Callable[[list[str]], None], words: list[str], stdin: str = "") -> dict[str, Any]:
    """
    Run a command, and return the code with which it exits and what it prints.

    :param run: runs it.
    :param words: its arguments.
    :param stdin: what it can read.
    """
    code: object = 0
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            run(words)
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdin = sys.__stdin__
    return {"code": code, "printed": printed.getvalue()}


def runs_of(dag_id: str) -> list[Any]:
    """
    Find the runs of a DAG, the oldest first.

    :param dag_id: which.
    """
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        runs = session.query(DagRun).filter_by(dag_id=dag_id).order_by(DagRun.id).all()
        session.expunge_all()
    return runs


def dag_bag(dags: str) -> Any:
    """
    Parse DAGs, and bring them to Airflow's database, where that is needed to run them.

    :param dags: their folder.
    """
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1 and older
        from airflow.models.dagbag import DagBag
    try:
        from airflow.dag_processing.bundles.manager import DagBundlesManager
    except ImportError:  # Airflow 2
        bag = DagBag(dags, include_examples=False)
        bag.sync_to_db()
        return bag
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dags)
    try:
        from airflow.dag_processing.dagbag import sync_bag_to_db
    except ImportError:
        try:
            from airflow.models.dagbag import sync_bag_to_db
        except ImportError:  # Airflow 3.0
            bag.sync_to_db("dags-folder", None)
            return bag
    sync_bag_to_db(bag, "dags-folder", None)
    return bag


def describe(dag: Any, run: Any) -> dict[str, Any]:
    """
    Return how a run ended, from Airflow's database.

    :param dag: what was run.
    :param run: one of its runs.
    """
    instances = sorted(run.get_task_instances(), key=lambda one: (one.task_id, one.map_index))
    return {
        "state": str(getattr(run.state, "value", run.state)),
        "tasks": {name(one): str(getattr(one.state, "value", one.state)) for one in instances},
        "returned": {name(one): xcom(one, "return_value") for one in instances},
        "links": {name(one): link(dag, one) for one in instances},
    }


def name(instance: Any) -> str:
    """
    Name a task instance.

    :param instance: as the database has it.
    """
    return instance.task_id if instance.map_index < 0 else f"{instance.task_id}[{instance.map_index}]"


def xcom(instance: Any, key: str) -> Any:
    """
    Read an XCom.

    :param instance: whose.
    :param key: which.
    """
    try:
        from airflow.models.xcom import XComModel
    except ImportError:  # Airflow 2
        from airflow.models.xcom import XCom

        return XCom.get_value(ti_key=instance.key, key=key)
    from airflow.utils.session import create_session

    with create_session() as session:
        row = (
            session.query(XComModel)
            .filter_by(
                dag_id=instance.dag_id,
                run_id=instance.run_id,
                task_id=instance.task_id,
                map_index=instance.map_index,
                key=key,
            )
            .one_or_none()
        )
        return None if row is None else XComModel.deserialize_value(row)


def link(dag: Any, instance: Any) -> str | None:
    """
    Follow the task's link as the web server does: from the serialised DAG.

    :param dag: what was run.
    :param instance: of which task.
    """
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:  # Airflow 3.1 and older
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization

    task = Serialization.from_dict(Serialization.to_dict(dag)).get_task(instance.task_id)
    return task.get_extra_links(instance, LINK) or None if LINK in task.extra_links else None


def form() -> dict[str, Any]:
    """Return the fields of the connection form: from the API of Airflow 3, or from the form of Airflow 2."""
    try:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    except ImportError:  # Airflow 2
        from airflow.providers_manager import ProvidersManager

        manager = ProvidersManager()
        behaviour = manager.field_behaviours[CONN_TYPE]
        prefix = f"extra__{CONN_TYPE}__"
        widgets = [key for key in manager.connection_form_widgets if key.startswith(prefix)]
        return {
            "fields": sorted(key[len(prefix) :] for key in widgets),
            "hidden": sorted(behaviour["hidden_fields"]),
            "labels": behaviour["relabeling"],
        }
    (meta,) = [one for one in HookMetaService.hook_meta_data() if one.connection_type == CONN_TYPE]
    standard = meta.standard_fields.model_dump() if meta.standard_fields else {}
    shown = {key: value for key, value in standard.items() if value}
    return {
        "fields": sorted(meta.extra_fields or {}),
        "hidden": sorted(key for key, value in shown.items() if value["hidden"]),
        "labels": {key: value["title"] for key, value in shown.items() if value["title"]},
    }


def test() -> list[tuple[bool, str]]:
    """Press the form's Test button: with the right password, and with a wrong one."""
    from airflow.models.connection import Connection

    results = []
    for password in (None, "wrong"):
        stored = Connection.get_connection_from_secrets("omnimessage_default")
        connection = Connection(
            conn_id="tested",
            conn_type=CONN_TYPE,
            host=stored.host,
            login=stored.login,
            password=password or stored.password,
        )
        # as the form's Test button does: the hook looks for the connection under its id
        results.append(pressed(connection))
    return results


def pressed(connection: Any) -> tuple[bool, str]:
    """
    Test one connection.

    :param connection: not stored.
    """
    os.environ["AIRFLOW_CONN_TESTED"] = connection.get_uri()
    try:
        return connection.test_connection()
    finally:
        del os.environ["AIRFLOW_CONN_TESTED"]


if __name__ == "__main__":
    main(*sys.argv[1:])
