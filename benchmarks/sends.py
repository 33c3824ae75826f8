"""Single sends over one session, beside the official client's loop, against a sandbox in another process."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bulk import connect
from figure import Figure
from polling import UNPACED

ROUNDS = 9
SENDS = 400
TO = "+37255555555"
TEXT = "The report is late"


def measure() -> list[Figure]:
    """Send in turns, so that both meet the same weather, and take medians."""
    from _airflow import running_sandbox

    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIRFLOW_HOME"] = folder
        with running_sandbox(Path(folder), "--port", "0") as announced:
            ours, official = _ours(announced["url"]), _official(announced["url"])
            rates: dict[str, list[float]] = {"ours": [], "official": []}
            for _ in range(ROUNDS + 1):
                rates["ours"].append(_rate(ours))
                rates["official"].append(_rate(official))
    mine, theirs = (statistics.median(values[1:]) for values in rates.values())
    return [
        Figure(
            what="Single sends (Viber, then SMS) over one session",
            unit="per second",
            ours=mine,
            peer="messente-api 2.7.0's loop",
            theirs=theirs,
            aim="not slower",
            holds=mine >= theirs,
        )
    ]


def _ours(url: str) -> Callable[[], object]:
    connect(url, UNPACED)

    from airflow_provider_omnimessage.api.messages import sms, viber
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    hook = OmnimessageHook()
    return lambda: hook.send(TO, [viber(TEXT, ttl=600), sms(TEXT)])


def _official(url: str) -> Callable[[], object]:
    from messente_api import ApiClient, Configuration, OmnimessageApi
    from messente_api.models import SMS, Omnimessage, OmnimessageMessagesInner, Viber

    api = OmnimessageApi(ApiClient(Configuration(host=url, username="sandbox", password="sandbox")))

    def send() -> object:
        messages = [OmnimessageMessagesInner(Viber(text=TEXT, ttl=600)), OmnimessageMessagesInner(SMS(text=TEXT))]
        return api.send_omnimessage(Omnimessage(to=TO, messages=messages))

    return send


def _rate(send: Callable[[], object]) -> float:
    begin = time.perf_counter()
    for _ in range(SENDS):
        send()
    return SENDS / (time.perf_counter() - begin)
