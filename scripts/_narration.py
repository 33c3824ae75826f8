"""What the demo says: times, texts and results for a person, and a stop if one of them would be wrong."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

from _airflow import ROOT
from _demo_runs import tail

from airflow_provider_omnimessage.sandbox import SandboxClient

FOLDER = ROOT / ".airflow" / "demo"
ZONE = "Europe/Tallinn"


def advance_to(sandbox: SandboxClient, message: dict[str, Any]) -> None:
    """Move the sandbox's clock to the time of a message, unless it is past that."""
    if datetime.fromisoformat(message["time_to_send"]) > sandbox.now:
        sandbox.set_time(datetime.fromisoformat(message["time_to_send"]))


def say_scheduled(alert: dict[str, Any]) -> None:
    """Report when an alert was scheduled, and for when."""
    due = in_zone(alert["time_to_send"])
    say(f"   {clock(alert['accepted_at'])}  Before the work starts, an SMS is scheduled for {due}.")


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message's first channel, in quotes."""
    return f"“{message['body']['messages'][0]['text']}”"


def xcom(run: dict[str, Any], task_id: str, key: str, map_index: int = -1) -> Any:
    """Return one XCom of a run."""
    for row in run["xcoms"]:
        if (row["task_id"], row["key"], row["map_index"]) == (task_id, key, map_index):
            return row["value"]
    raise SystemExit(f"{run['dag_id']}: {task_id} has no XCom {key!r}: {run['tasks']}\n{tail(FOLDER / 'runs.log')}")


def in_zone(time_: str, zone: str = ZONE) -> str:
    """Format a time in a time zone and in UTC."""
    utc = datetime.fromisoformat(time_).astimezone(timezone.utc)
    return f"{utc.astimezone(ZoneInfo(zone)):%a %d %b %Y %H:%M:%S} in {zone} ({utc:%H:%M:%S} UTC)"


def clock(time_: str | datetime, zone: str = ZONE) -> str:
    """Format a time of day in the demo's time zone."""
    time_ = datetime.fromisoformat(time_) if isinstance(time_, str) else time_
    return f"{time_.astimezone(ZoneInfo(zone)):%H:%M:%S}"


def expect(holds: bool, *found: Any) -> None:
    """Stop the demo if what it is about to say is not true."""
    if not holds:
        details = "\n".join(json.dumps(each, indent=2) for each in found)
        raise SystemExit(f"The demo expected something else:\n{details}\n{tail(FOLDER / 'runs.log')}")


def say(*lines: str) -> None:
    """Print lines at once."""
    for line in lines:
        print(line, flush=True)
