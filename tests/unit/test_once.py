"""What identifies a notification in all triggerers."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest
from full_size import full_size

from airflow_provider_omnimessage.alerts.recipients import as_recipients
from airflow_provider_omnimessage.notifications.once import stable_text

IN_A_PROCESS = """
from datetime import timedelta
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.notifications.once import stable_text

NUMBERS = {"+37255555551", "+37255555552", "+37255555553"}
NAMES = {"name": NUMBERS, "names": [NUMBERS, frozenset(NUMBERS)]}

def on_call(when, numbers=NUMBERS):
    return "+37255555551" if when.hour in {8, 9, 10} else numbers

for to in (NUMBERS, frozenset(NUMBERS), sorted(NUMBERS), on_call, lambda when: NUMBERS, lambda when: on_call(when)):
    print(OmnimessageNotifier(to=to, text="late", time_to_send=timedelta(hours=1))._arguments)
print(stable_text(NAMES))
"""


@full_size
def test_it_is_the_same_in_each_process():
    found = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS], env=environment, capture_output=True, text=True, check=True
        )
        found.add(ran.stdout)
    assert len(found) == 1
    texts = found.pop().splitlines()
    assert len(texts) == 7
    assert len(set(texts)) == 6, "a set and a frozen set are the same"


def test_it_differs_if_what_is_sent_differs():
    def closure(number):
        return lambda when: number

    one, other = "+37255555551", "+37255555552"
    for first, second in (
        ([one], [other]),
        ({one}, {one, other}),
        ([one, other], [f"{one}', '{other}"]),
        (lambda when: "+37255555551", lambda when: "+37255555552"),
        (lambda when: one.strip(), lambda when: one.lower()),
        (lambda when, to=one: to, lambda when, to=other: to),
        (closure(one), closure(other)),
        (partial(max, one), partial(max, other)),
        (one.strip, other.strip),
    ):
        assert stable_text(first) != stable_text(second)


@pytest.mark.parametrize(
    "argument", [None, "a", 1, timedelta(hours=1), datetime(2026, 1, 1, tzinfo=timezone.utc), as_recipients(max)]
)
def test_plain_values_are_what_they_are(argument):
    assert stable_text(argument) == repr(argument)
