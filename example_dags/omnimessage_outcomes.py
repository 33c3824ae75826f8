"""
Start a run when messages are delivered, fail or are cancelled: scheduled on an asset, without polling.

Requires Airflow 3.0 and the receiver; the connection's extra ``push_url`` must point at it.
"""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_omnimessage.triggers.events import OmnimessageEventTrigger

outcomes = Asset(
    "omnimessage_outcomes",
    watchers=[AssetWatcher(name="outcomes", trigger=OmnimessageEventTrigger(consumer="omnimessage_outcomes"))],
)

with DAG(
    dag_id="omnimessage_outcomes",
    schedule=[outcomes],
    catchup=False,
    tags=["omnimessage", "example"],
    doc_md=__doc__,
):

    @task(inlets=[outcomes])
    def count(triggering_asset_events: dict | None = None) -> dict[str, int]:
        """Count the outcomes that started this run. A repeated outcome has the same id."""
        found = {}
        for event in (triggering_asset_events or {}).get(outcomes, []):
            payload = event.extra.get("payload", {})
            found[payload.get("id")] = payload.get("outcome")
        return {outcome: list(found.values()).count(outcome) for outcome in set(found.values())}

    count()
