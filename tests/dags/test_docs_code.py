"""Run the Python in README and docs, and the DAGs in it, against the sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from full_size import full_size
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent.parent
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "_build" not in page.parts]
NOT_RUN = {
    "send = ScheduleBulkOmnimessageOperator(": "needs an object storage",
    "SnsPublishOperator(": "the task before the switch: a package that is not installed",
    "def send():\n    client = Client(": "the task before the switch: a package that is not installed",
    "HttpOperator(": "the task before the switch: a package that is not installed",
}
"""Beginnings of pieces that are only compiled, with the reason."""
ASSUMED = """
from datetime import datetime, timedelta
import pendulum
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Asset, AsyncCallback, DeadlineAlert, DeadlineReference, Param, task
from airflow_provider_omnimessage.api.messages import rcs, sms, viber, whatsapp
from airflow_provider_omnimessage.alerts import DeadMansSwitch
from airflow_provider_omnimessage.alerts import HeartbeatOperator, OnCall, Step
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)

REMINDER = Asset("omnimessage_reminder")

def to_be_done(name):
    return task(task_id=name)(lambda: None)

work, extract, transform, load = map(to_be_done, ("work", "extract", "transform", "load"))

def load_report():
    pass
"""
"""What the pages assume: imports that were shown before, and tasks of the reader."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pieces(page: Path, language: str) -> Iterator[tuple[int, str]]:
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "fence" and token.info.strip() == language:
            yield token.map[0] + 1, token.content


WITH_PYTHON = [page for page in PAGES if any(pieces(page, "python"))]


@full_size
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page, run_dag, sandbox, monkeypatch):
    from airflow.sdk import DAG
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    names: dict = {"__file__": str(ROOT / "example_dags" / "docs.py")}
    exec(ASSUMED, names)
    for line, text in pieces(page, "python"):
        code = compile(text, f"{name_of(page)}:{line}", "exec", dont_inherit=True)
        if text.startswith(tuple(NOT_RUN)):
            continue
        monkeypatch.setattr(DagContext, "autoregistered_dags", set())
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", sandbox.airflow_conn)
        names["sandbox"] = sandbox
        # a piece may be the inside of a DAG
        around = DAG(f"docs_{page.stem.lower().replace('-', '_')}_{line}", schedule=None)
        with around:
            exec(code, names)
        for dag in {around, *(dag for dag, _ in DagContext.autoregistered_dags)}:
            if dag.tasks:
                run = run_dag(dag)
                assert run.state == "success", f"{name_of(page)}:{line}\n{run.log[-3000:]}"


def test_pieces_that_are_not_run_still_exist():
    texts = [text for page in WITH_PYTHON for _, text in pieces(page, "python")]
    assert [begin for begin in NOT_RUN if not any(text.startswith(begin) for text in texts)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if any(pieces(page, "json"))], ids=name_of)
def test_the_json_of_a_page_is_valid(page):
    for _, text in pieces(page, "json"):
        json.loads(text)
