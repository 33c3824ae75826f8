"""What ``scripts/demo`` shows: the example DAGs on a real Airflow, and what a sandboxed Messente made of them."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from _airflow import ROOT, AirflowHome, RunningAirflow, running_sandbox

from airflow_provider_omnimessage.sandbox import SandboxClient

FOLDER = ROOT / ".airflow" / "demo"
DAGS = ROOT / "example_dags"
ZONE = "Europe/Tallinn"
RECIPIENT_WHOSE_FIRST_CHANNEL_FAILS = "+37255550002"

PLAN: list[dict[str, Any]] = [
    {"dag_id": "omnimessage_schedule_and_cancel"},
    {"dag_id": "omnimessage_schedule_and_cancel", "conf": {"work_fails": True}},
    {"dag_id": "omnimessage_fallback_channels", "conf": {"to": RECIPIENT_WHOSE_FIRST_CHANNEL_FAILS}},
    {"dag_id": "omnimessage_local_times"},
    {"dag_id": "omnimessage_mapped_recipients"},
]


def main() -> None:
    """Show it in words, or leave it running."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Shows what the package does, without an account."
    )
    parser.add_argument("--ui", action="store_true", help="leave a whole Airflow and the inbox running until Ctrl+C")
    options = parser.parse_args()
    with running_sandbox(FOLDER, "--port", "0") as announced:
        sandbox = SandboxClient(announced["url"])
        extra = {"timezone": ZONE, "dashboard_url": f"{sandbox.inbox_url}#{{omnimessage_id}}"}
        connection = {**sandbox.connection, "extra": extra}
        home = AirflowHome(FOLDER, dags=DAGS, connections={"omnimessage_default": json.dumps(connection)})
        if not (FOLDER / "airflow.db").exists():
            tell("Making a database for Airflow ...")
        home.prepare()
        tell(f"Airflow {version('apache-airflow')}, and a sandbox in Messente's place: nothing leaves this machine.")
        if options.ui:
            leave_running(home, sandbox)
        else:
            narrate(home, sandbox)


def narrate(home: AirflowHome, sandbox: SandboxClient) -> None:
    """Run the examples and say what happened."""
    runs = run_examples(home)

    tell("", "1. Work that is done in time: the alert is scheduled first, and cancelled at the end.")
    run = next(runs)
    message = tell_scheduling(run, sandbox)
    demand(run["state"] == "success" and message["state"] == "cancelled" and message["sent_at"] is None, run)
    tell(
        f"   The id went over XCom to the task 'cancel', which cancelled it at {clock(message['cancelled_at'])}.",
        "   Sent: nothing.",
    )

    tell("", "2. The same, but the work fails: nobody cancels.")
    run = next(runs)
    message = tell_scheduling(run, sandbox)
    demand(run["state"] == "failed" and message["state"] == "scheduled", run)
    tell("   The run ended, failed. At Messente the alert is waiting for its time, whatever becomes of Airflow.")
    alert_id = message["omnimessage_id"]

    tell("", "3. One message, three channels: Viber first, then WhatsApp, then SMS.")
    run = next(runs)
    demand(run["state"] == "success", run)
    sandbox.advance(30)
    message = sandbox.message(xcom(run, "send", "return_value"))
    tell(f"   To {message['to']}, at which the first channel always fails in the sandbox:")
    for status in message["statuses"]:
        tell(f"   {status['channel']:<9} {status['status']}" + (f" ({status['error']})" if status["error"] else ""))
    tell("   sms       not needed")

    tell("", "4. Nine in the morning in Tallinn, around the next clock change (local time stays, UTC moves).")
    run = next(runs)
    demand(run["state"] == "success", run)
    for index in range(3):
        tell(f"   {in_zone(xcom(run, 'schedule', 'time_to_send', index))}")
    tell(f"   All cancelled again by one task: {len(xcom(run, 'cancel', 'return_value'))} ids from one mapped XCom.")

    tell("", "5. A mapped task for each recipient, each at nine where they live.")
    run = next(runs)
    demand(run["state"] == "success", run)
    for index, person in enumerate(xcom(run, "recipients", "return_value")):
        moment = in_zone(xcom(run, "schedule", "time_to_send", index), person["timezone"])
        tell(f"   {xcom(run, 'schedule', 'to', index):<13} {moment}")
    tell("   All cancelled again.")

    tell("", "And the alert of 2.? Its time comes (the sandbox's clock is put forward):")
    sandbox.set_time(datetime.fromisoformat(sandbox.message(alert_id)["time_to_send"]))
    sandbox.advance(10)
    message = sandbox.message(alert_id)
    demand(message["sent_at"] is not None and message["state"] == "delivered", message)
    delivered_by = next(status["channel"] for status in message["statuses"] if status["status"] == "DELIVRD")
    tell(
        f"   Sent at {in_zone(message['sent_at'])}, delivered by {delivered_by}:",
        f"   “{message['body']['messages'][0]['text']}”",
        "",
        "To look around in the browser: scripts/demo --ui",
    )


def run_examples(home: AirflowHome) -> Iterator[dict[str, Any]]:
    """Run the plan in a process of its own, and give each run as soon as it has ended."""
    plan, report, log = (home.folder / name for name in ("plan.json", "report.jsonl", "runs.log"))
    plan.write_text(json.dumps(PLAN))
    report.write_text("")
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "_runs.py"), str(plan), str(report)],
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with open(report) as lines:
            for _ in PLAN:
                while not (line := lines.readline()).endswith("\n"):
                    if process.poll() is not None and not line:
                        raise SystemExit(f"The example DAGs did not run; the log is {log}:\n{tail(log)}")
                    time.sleep(0.05)
                yield json.loads(line)
    finally:
        process.terminate()
        process.wait()


def leave_running(home: AirflowHome, sandbox: SandboxClient) -> None:
    """Start all of Airflow, trigger two runs to look at, and wait for Ctrl+C."""
    airflow = RunningAirflow(home)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        tell("Starting Airflow: API server, scheduler, DAG processor and triggerer ...")
        airflow.start()
        home.run("dags", "reserialize")
        home.run("dags", "trigger", "omnimessage_schedule_and_cancel", "--conf", json.dumps({"work_fails": True}))
        home.run("dags", "trigger", "omnimessage_fallback_channels")
        tell(
            "",
            f"  Airflow   {home.url}   login: admin, password: admin",
            f"  Inbox     {sandbox.inbox_url}",
            "",
            "An alert is on its way: the run of omnimessage_schedule_and_cancel fails, so that nobody cancels it.",
            "Watch it count down in the inbox; its clock can be put forward there.",
            "Ctrl+C ends it all.",
        )
        while True:
            airflow.check()
            time.sleep(1)
    except KeyboardInterrupt:
        tell("", "Ending ...")
    finally:
        airflow.stop()


def tell_scheduling(run: dict[str, Any], sandbox: SandboxClient) -> dict[str, Any]:
    """Tell what the task 'schedule' did, from its XCom."""
    omnimessage_id = xcom(run, "schedule", "return_value")
    channels = ", then ".join(xcom(run, "schedule", "message_ids"))
    tell(
        f"   Scheduled for {in_zone(xcom(run, 'schedule', 'time_to_send'))}",
        f"   to {xcom(run, 'schedule', 'to')} by {channels}: omnimessage_id {omnimessage_id}",
    )
    return sandbox.message(omnimessage_id)


def xcom(run: dict[str, Any], task_id: str, key: str, map_index: int = -1) -> Any:
    """Find one XCom of a run."""
    for row in run["xcoms"]:
        if (row["task_id"], row["key"], row["map_index"]) == (task_id, key, map_index):
            return row["value"]
    raise SystemExit(f"{run['dag_id']}: {task_id} has no XCom {key!r}: {run['tasks']}\n{tail(FOLDER / 'runs.log')}")


def in_zone(moment: str, zone: str = ZONE) -> str:
    """Show a moment in a time zone and in UTC."""
    utc = datetime.fromisoformat(moment).astimezone(timezone.utc)
    return f"{utc.astimezone(ZoneInfo(zone)):%a %d %b %Y %H:%M:%S} in {zone} ({utc:%H:%M:%S} UTC)"


def clock(moment: str) -> str:
    """Show the time of day of a moment, in UTC."""
    return f"{datetime.fromisoformat(moment).astimezone(timezone.utc):%H:%M:%S} UTC"


def demand(holds: bool, what: dict[str, Any]) -> None:
    """End the demo where it would not show what it says."""
    if not holds:
        raise SystemExit(
            f"This is not what should have happened:\n{json.dumps(what, indent=2)}\n{tail(FOLDER / 'runs.log')}"
        )


def tail(log: Path) -> str:
    """Give the end of a log."""
    return log.read_text(errors="replace")[-4000:]


def tell(*lines: str) -> None:
    """Print, at once."""
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
