"""The lines of triggers never keep the event loop from reading what Airflow sends."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import multiprocessing
import threading
from pathlib import Path

from triggering import a_trigger, fire, status_requests
from waiting import PATIENCE

from airflow_provider_omnimessage.triggers import omnimessage as triggers
from airflow_provider_omnimessage.triggers.log_lines import LogLines
from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger

TASK = contextvars.ContextVar("task", default="none")


class FullSocket:
    """A log whose reader reads nothing until the event loop has done its part."""

    def __init__(self):
        self.is_read = threading.Event()
        self.lines = []

    def info(self, message, *args):
        assert self.is_read.wait(PATIENCE), "the event loop stands still"
        self.lines.append((message % args if args else message, TASK.get()))

    def error(self, message, exc_info):
        self.info(f"{message}: {exc_info}")


def test_lines_are_written_in_order_with_the_context_of_their_trigger_while_the_loop_goes_on():
    log = FullSocket()

    async def run():
        TASK.set("wait")
        lines = LogLines(log)
        for number in range(3):
            lines.info("line %d", number)
        lines.error("lost", OSError("gone"))
        await asyncio.sleep(0.05)
        assert not log.lines
        log.is_read.set()
        await lines.written()

    asyncio.run(run())
    assert log.lines == [*((f"line {number}", "wait") for number in range(3)), ("lost: gone", "wait")]


def test_a_line_that_cannot_be_written_does_not_cost_the_event():
    class Closed(FullSocket):
        def info(self, message, *args):
            raise BrokenPipeError

    async def run():
        lines = LogLines(Closed())
        lines.info("line")
        await lines.written()

    asyncio.run(run())


def test_a_wait_goes_on_polling_while_nobody_reads_its_lines(send, sandbox, monkeypatch):
    log = FullSocket()
    monkeypatch.setattr(OmnimessageDeliveryTrigger, "log", log)
    stuck = send("+37255550004")
    sandbox.advance(10)

    async def run():
        waiting = asyncio.ensure_future(fire(a_trigger(stuck, poke_interval=0.05)))
        while len(status_requests(sandbox)) < 3:
            await asyncio.sleep(0.01)
        assert not log.lines
        log.is_read.set()
        while not log.lines:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), PATIENCE))
    assert stuck in log.lines[0][0]


def test_a_forked_process_writes_its_lines():
    async def write(log):
        lines = LogLines(log)
        lines.info("line")
        await lines.written()

    log = FullSocket()
    log.is_read.set()
    asyncio.run(write(log))
    child = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(write(log)))
    child.start()
    child.join(PATIENCE)
    try:
        assert child.exitcode == 0
    finally:
        child.kill()


def test_the_triggers_have_no_other_log():
    for path in Path(triggers.__file__).parent.glob("*.py"):
        if path.name in ("log_lines.py", "turns.py"):  # turns are of notifications, which write a line or two each
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        wrapped = {
            ast.unparse(n.args[0]) for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "LogLines"
        }
        logs = {ast.unparse(node) for node in nodes if isinstance(node, (ast.Call, ast.Attribute))}
        assert {log for log in logs if log.endswith(("getLogger(__name__)", "self.log", "trigger.log"))} == wrapped, (
            path
        )
