"""The tutorial, followed literally: its commands, block by block, in an empty home, with the sandbox that it starts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _airflow import ROOT, free_port
from markdown_it import MarkdownIt

from airflow_provider_omnimessage.sandbox import SandboxClient

INSTALL = "pip install "
START_SANDBOX = "python -m airflow_provider_omnimessage.sandbox"
NEEDS_AN_ACCOUNT = "YOUR "
PORT = "8025"


def blocks() -> list[str]:
    """Return the shell commands of the page."""
    tokens = MarkdownIt("commonmark").parse((ROOT / "docs" / "tutorial.md").read_text())
    return [token.content for token in tokens if token.type == "fence" and token.info.strip() == "bash"]


def log_lines() -> list[str]:
    """Return the beginnings of the log lines that the page promises."""
    found = re.findall(r"`(Sent .+?)…`", (ROOT / "docs" / "tutorial.md").read_text())
    assert found
    return found


class Reader:
    """
    A reader with an empty home, a checkout, and an environment in which the package is installed.

    :param folder: contains both.
    """

    def __init__(self, folder: Path) -> None:
        self.port = str(free_port())
        self.checkout = folder / "checkout"
        shutil.copytree(ROOT / "example_dags", self.checkout / "example_dags")
        (folder / "home").mkdir()
        self.environment = {
            "HOME": str(folder / "home"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        self.sandbox: subprocess.Popen[bytes] | None = None
        self.exported: list[str] = []

    def follow(self, block: str) -> str:
        """
        Run one block of the page unchanged, but on a free port, and return what it prints.

        :param block: the commands.
        """
        if block.startswith(START_SANDBOX):
            self.sandbox = subprocess.Popen(
                [*block.split(), "--port", self.port], env=self.environment, cwd=self.checkout, start_new_session=True
            )
            self._await_inbox()
            return ""
        block = block.replace(PORT, self.port)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join([*self.exported, block])],
            cwd=self.checkout,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-4000:]}"
        # every block has a shell of its own here; the reader has one
        self.exported += [line for line in block.splitlines() if line.startswith("export ")]
        return done.stdout

    def _await_inbox(self) -> None:
        """Wait until the inbox can be opened, as the page says."""
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(self.port)), timeout=1):
                return
            assert self.sandbox is not None
            assert self.sandbox.poll() is None, "the sandbox did not start"
            time.sleep(0.1)
        raise AssertionError("the sandbox did not start within a minute")

    def stop(self) -> None:
        """End the sandbox, as Ctrl+C does."""
        if self.sandbox is not None:
            self.sandbox.terminate()
            self.sandbox.wait(20)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.stop()


def test_the_tutorial_works_when_it_is_followed_literally(reader):
    printed = [
        reader.follow(block) for block in blocks() if not block.startswith(INSTALL) and NEEDS_AN_ACCOUNT not in block
    ]
    output = "\n".join(printed)
    assert all(line in output for line in log_lines())
    sandbox = SandboxClient(f"http://127.0.0.1:{reader.port}")
    sandbox.advance(10)
    outcomes = [(message["to"], message["state"]) for message in sandbox.messages]
    assert outcomes == [
        ("+37255555555", "delivered"),
        ("+37255550001", "failed"),
        ("+37255555555", "cancelled"),
        ("+37255555555", "delivered"),
    ]
    assert sandbox.messages[-1]["body"]["messages"][0]["text"].startswith(
        "Report is late: omnimessage_dead_mans_switch"
    )
