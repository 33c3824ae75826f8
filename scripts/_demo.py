"""The demo of ``scripts/demo``: run example DAGs on a real Airflow against the sandbox, and explain what happened."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

from _airflow import ROOT, AirflowHome, RunningAirflow, running_sandbox
from _demo_runs import kill_group, running, tail
from _narration import FOLDER, ZONE, advance_to, clock, expect, in_zone, say, say_scheduled, text_of, xcom

from airflow_provider_omnimessage.sandbox import SandboxClient

DAGS = ROOT / "example_dags"
RECIPIENT_WHOSE_FIRST_CHANNEL_FAILS = "+37255550002"
SWITCH = "omnimessage_dead_mans_switch"
ON_CALL = "omnimessage_on_call"
WAIT = "omnimessage_wait_for_delivery"
CONNECTION = "omnimessage_default"
STARTING_WITHIN = 180  # seconds, on a busy machine
#: With these, Airflow's API server runs the receiver.
RECEIVER = {
    "AIRFLOW__OMNIMESSAGE__RECEIVER": "True",
    "AIRFLOW__OMNIMESSAGE__RECEIVER_DATABASE": f"sqlite:///{FOLDER}/receiver.db",
}

ALERTS: list[dict[str, Any]] = [
    {"dag_id": SWITCH},
    {"dag_id": SWITCH, "conf": {"work_fails": True}},
    {"dag_id": SWITCH, "conf": {"work_seconds": 3600}},
]
ESCALATION: list[dict[str, Any]] = [
    {"dag_id": ON_CALL, "conf": {"work_fails": True}},
    {"dag_id": ON_CALL, "conf": {"work_fails": False}},
]
MESSAGES: list[dict[str, Any]] = [
    {"dag_id": "omnimessage_fallback_channels", "conf": {"to": RECIPIENT_WHOSE_FIRST_CHANNEL_FAILS}},
    {"dag_id": "omnimessage_local_times"},
    {"dag_id": "omnimessage_mapped_recipients"},
]


def main() -> None:
    """Explain the examples in the terminal, or start Airflow and the inbox for a browser."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Show what the package does, without an account.")
    parser.add_argument("--ui", action="store_true", help="run a complete Airflow and the inbox until Ctrl+C")
    options = parser.parse_args()
    # a shell that runs this in the background ignores Ctrl+C, and SIGTERM would skip the cleaning up
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    with running_sandbox(FOLDER, "--port", "0") as announced:
        sandbox = SandboxClient(announced["url"])
        home = AirflowHome(FOLDER, dags=DAGS, connections={CONNECTION: connection(sandbox)}, extra=RECEIVER)
        prepare(home)
        say(
            f"Airflow {version('apache-airflow')}. A sandbox stands in for Messente: nothing leaves this machine.",
            f"Inbox: {sandbox.inbox_url}",
        )
        if options.ui:
            leave_running(home, sandbox)
        else:
            show_alerts(home, sandbox)
            show_escalation(home, sandbox)
            show_messages(home, sandbox)
            show_wait(home, sandbox)
            show_inbox(sandbox)


def interrupt(*_: object) -> None:
    """Leave every ``with`` block, so that all processes are stopped."""
    raise KeyboardInterrupt


def connection(sandbox: SandboxClient, receiver: str | None = None) -> str:
    """Return the Airflow connection.

    :param receiver: where Messente posts delivery reports.
    """
    extra = {"timezone": ZONE, "dashboard_url": f"{sandbox.inbox_url}#{{omnimessage_id}}"}
    return json.dumps({**sandbox.connection, "extra": {**extra, **({"push_url": receiver} if receiver else {})}})


def prepare(home: AirflowHome) -> None:
    """Start each demo with an empty Airflow. Its database is made once, and copied from then on."""
    database, empty = FOLDER / "airflow.db", FOLDER / f"empty-{version('apache-airflow')}.db"
    for file in FOLDER.glob("airflow.db*"):
        file.unlink()
    if empty.exists():
        shutil.copy(empty, database)
    else:
        say("Creating a database for Airflow ...")
    home.prepare()
    shutil.copy(database, empty)


def show_alerts(home: AirflowHome, sandbox: SandboxClient) -> None:
    """Run a DAG with a dead man's switch three times, and let 30 minutes pass."""
    say("", f"The dead man's switch: {DAGS.name}/{SWITCH}.py, whose work is due in 30 minutes", "")
    with running(home, ALERTS) as runs:
        say("1. The work is done in time.")
        run = next(runs)
        alert = sandbox.messages[-1]
        expect(run["state"] == "success" and alert["state"] == "cancelled" and alert["sent_at"] is None, run, alert)
        say_scheduled(alert)
        say(f"   {clock(alert['cancelled_at'])}  The work is done: the alert is cancelled.", "")

        say("2. The work fails.")
        run = next(runs)
        after_failure = sandbox.messages[-1]
        expect(run["state"] == "failed" and after_failure["state"] == "scheduled", run, after_failure)
        say_scheduled(after_failure)
        say(f"   {clock(sandbox.now)}  The work has failed: the alert stays scheduled.", "")

        say("3. Airflow is killed while it works.")
        before = len(sandbox.messages)
        deadline = time.monotonic() + STARTING_WITHIN
        while len(sandbox.messages) == before or not is_working(home):
            expect(time.monotonic() < deadline, sandbox.messages)
            time.sleep(0.2)
        after_kill = sandbox.messages[-1]
    expect(after_kill["state"] == "scheduled", after_kill)
    say_scheduled(after_kill)
    say(f"   {clock(sandbox.now)}  kill -9. Nothing is left that could send or cancel anything.", "")

    say("30 minutes later (the sandbox's clock is moved):")
    for alert in (after_failure, after_kill):
        advance_to(sandbox, alert)
    sandbox.advance(10)
    for number, alert in ((2, after_failure), (3, after_kill)):
        alert = sandbox.message(alert["omnimessage_id"])
        expect(alert["state"] == "delivered", alert)
        say(f"   {clock(alert['sent_at'])}  Alert of run {number} sent to {alert['to']}: {text_of(alert)}")


def show_escalation(home: AirflowHome, sandbox: SandboxClient) -> None:
    """Run a DAG whose alert has two steps: once they go out, and once they are cancelled."""
    say("", f"Escalation: {DAGS.name}/{ON_CALL}.py, whose work is due in 30 minutes", "")
    sandbox.set_time(datetime.now(timezone.utc))
    before = len(sandbox.messages)
    with running(home, ESCALATION) as runs:
        say("4. The work fails: whoever is on call is alerted, 15 minutes later again, then somebody else.")
        run = next(runs)
        steps = sandbox.messages[before:]
        expect(run["state"] == "failed" and [step["state"] for step in steps] == ["scheduled"] * 3, run, *steps)
        for step in steps:
            say_scheduled(step)

        say("", "5. The work is done in time: the alert and both steps are cancelled.")
        run = next(runs)
        cancelled = sandbox.messages[before + 3 :]
        expect(run["state"] == "success" and [one["state"] for one in cancelled] == ["cancelled"] * 3, run, *cancelled)
        for step in cancelled:
            say(f"   {clock(step['cancelled_at'])}  Cancelled: the message to {step['to']}")
    say("", "An hour later:")
    for step in steps:
        sandbox.set_time(datetime.fromisoformat(step["time_to_send"]))
        sandbox.advance(10)
        step = sandbox.message(step["omnimessage_id"])
        expect(step["state"] == "delivered", step)
        say(f"   {clock(step['sent_at'])}  Sent to {step['to']}: {text_of(step)}")


def show_messages(home: AirflowHome, sandbox: SandboxClient) -> None:
    """Run one DAG for each of: fallback channels, local times, several recipients."""
    say("", "More than alerts", "")
    with running(home, MESSAGES) as runs:
        say("6. One message, three channels: Viber, then WhatsApp, then SMS.")
        run = next(runs)
        expect(run["state"] == "success", run)
        sandbox.advance(30)
        message = sandbox.message(xcom(run, "send", "return_value"))
        say(f"   To {message['to']}, for which the first channel fails in the sandbox:")
        for status in message["statuses"]:
            say(f"   {status['channel']:<9} {status['status']}" + (f" ({status['error']})" if status["error"] else ""))
        say("   sms       not needed", "")

        say("7. 09:00 in Tallinn, around the next clock change: local time stays, UTC moves.")
        run = next(runs)
        expect(run["state"] == "success", run)
        for index in range(3):
            say(f"   {in_zone(xcom(run, 'schedule', 'time_to_send', index))}")
        say("")

        say("8. One mapped task for each recipient, each at 09:00 in their own time zone.")
        run = next(runs)
        expect(run["state"] == "success", run)
        for index, person in enumerate(xcom(run, "recipients", "return_value")):
            local = in_zone(xcom(run, "schedule", "time_to_send", index), person["timezone"])
            say(f"   {xcom(run, 'schedule', 'to', index):<13} {local}")


def show_wait(home: AirflowHome, sandbox: SandboxClient) -> None:
    """Run a DAG that waits for delivery, with a receiver for the reports."""
    say("", f"Wait for delivery without polling: {DAGS.name}/{WAIT}.py", "")
    say("9. A delivery report ends the wait.")
    with receiver(home) as url:
        home.environment[f"AIRFLOW_CONN_{CONNECTION.upper()}"] = connection(sandbox, url)
        sandbox.freeze()  # until the task waits
        before = len(sandbox.requests)
        with running(home, [{"dag_id": WAIT}]) as runs:
            deadline = time.monotonic() + STARTING_WITHIN
            while not is_deferred(home):
                expect(time.monotonic() < deadline, sandbox.messages)
                time.sleep(0.1)
            message = sandbox.messages[-1]
            accepted_at = clock(message["accepted_at"])
            say(f"   {accepted_at}  The message is posted. The sensor is deferred, so it holds no worker.")
            advance_to(sandbox, message)
            sandbox.advance(30)
            run = next(runs)
        polls = sum(request["call"] == "status" for request in sandbox.requests[before:])
        expect(run["state"] == "success" and polls == 0, run, sandbox.requests[before:])
        report = xcom(run, "wait", "return_value")
        say(
            f"   {clock(sandbox.now)}  A report has arrived at the receiver: delivered by {report['delivered_by']}.",
            f"             The wait has ended. Requests for the message's status: {polls}.",
        )
        sandbox.resume()


@contextmanager
def receiver(home: AirflowHome) -> Iterator[str]:
    """Run the receiver in a process of its own, and return its URL."""
    announcement, log = home.folder / "receiver.json", home.folder / "receiver.log"
    announcement.unlink(missing_ok=True)
    command = [sys.executable, "-m", "airflow_provider_omnimessage", "receiver", "--port", "0"]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*command, "--announce", str(announcement)],
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + STARTING_WITHIN
        while not announcement.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The receiver did not start:\n{tail(log)}")
            time.sleep(0.05)
        yield json.loads(announcement.read_text())["url"]
    finally:
        kill_group(process)


def show_inbox(sandbox: SandboxClient) -> None:
    """Count what is in the inbox, and leave it open for who sits at the terminal."""
    states = [message["state"] for message in sandbox.messages]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    say("", f"The inbox has {len(states)} messages: {counts}.")
    say("To look around in the browser, with all of Airflow: scripts/demo --ui")
    if sys.stdin.isatty():
        say(f"The inbox stays open until you press Enter: {sandbox.inbox_url}")
        try:
            sys.stdin.readline()
        except KeyboardInterrupt:
            say("")


def is_working(home: AirflowHome) -> bool:
    """Return whether the last of the runs has reached its work, the task ``load``."""
    log = (home.folder / "runs.log").read_text(errors="replace")
    return len(re.findall(r"starting task_id=(\w+\.)?load ", log)) == len(ALERTS)


def is_deferred(home: AirflowHome) -> bool:
    """Return whether a task of the runs is deferred."""
    return "Pausing task as DEFERRED" in (home.folder / "runs.log").read_text(errors="replace")


def leave_running(home: AirflowHome, sandbox: SandboxClient) -> None:
    """Start all of Airflow, trigger some runs to look at, and wait for Ctrl+C."""
    airflow = RunningAirflow(home)
    try:
        home.environment[f"AIRFLOW_CONN_{CONNECTION.upper()}"] = connection(sandbox, f"{home.url}/omnimessage")
        say("Starting Airflow: API server, scheduler, DAG processor and triggerer ...")
        airflow.start()
        home.run("dags", "reserialize")
        home.run("dags", "trigger", SWITCH)
        home.run("dags", "trigger", SWITCH, "--conf", json.dumps({"work_fails": True}))
        home.run("dags", "trigger", "omnimessage_fallback_channels")
        home.run("dags", "trigger", WAIT)
        say(
            "",
            f"  Airflow   {home.url}   login: admin, password: admin",
            f"  Inbox     {sandbox.inbox_url}",
            "",
            f"{SWITCH} is running twice. One run is done in time, and its alert is cancelled. The other one fails,",
            "and its alert counts down in the inbox: press Next message there to move the sandbox's clock to its time.",
            f"In {WAIT}, a delivery report to the API server ends the wait.",
            "Press Ctrl+C to stop everything.",
        )
        while True:
            airflow.check()
            time.sleep(1)
    except KeyboardInterrupt:
        say("", "Stopping ...")
    finally:
        airflow.stop()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
