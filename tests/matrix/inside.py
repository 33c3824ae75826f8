"""Runs in a clean environment, where there is Airflow, the built wheel and nothing else, and tells what it saw."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

CONN_TYPE = "omnimessage"
LINK = "Message"


def main(dags: str, report: str) -> None:
    """
    Run every DAG of a folder, ask the provider's manager what it knows, and write it down.

    :param dags: the folder.
    :param report: the JSON file to write.
    """
    runs = run_all(dags)
    Path(report).write_text(json.dumps({"versions": versions(), "runs": runs, "form": form(), "test": test()}))


def versions() -> dict[str, str]:
    """Tell what is running, and where the provider was found."""
    import airflow

    import airflow_provider_omnimessage

    return {
        "airflow": airflow.__version__,
        "python": ".".join(map(str, sys.version_info[:2])),
        "provider": airflow_provider_omnimessage.__file__,
    }


def run_all(dags: str) -> dict[str, Any]:
    """
    Run DAGs with ``dag.test()``.

    :param dags: their folder.
    """
    bag = dag_bag(dags)
    if bag.import_errors:
        raise SystemExit(str(bag.import_errors))
    return {dag_id: describe(dag, dag.test()) for dag_id, dag in sorted(bag.dags.items())}


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
    Tell how a run ended, as Airflow's database has it.

    :param dag: what was run.
    :param run: what ``dag.test()`` returned.
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
    """Tell what the connection form has: what the API of Airflow 3 hands to the browser, or the fields of Airflow 2."""
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
    import os

    os.environ["AIRFLOW_CONN_TESTED"] = connection.get_uri()
    try:
        return connection.test_connection()
    finally:
        del os.environ["AIRFLOW_CONN_TESTED"]


if __name__ == "__main__":
    main(*sys.argv[1:])
