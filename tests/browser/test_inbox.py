"""The sandbox's inbox with a hundred messages: at desktop and phone size, light and dark."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import expect

from airflow_provider_omnimessage.api.messages import sms, viber, whatsapp
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

from .conftest import DESKTOP, PHONE

HUNDRED = 100


@pytest.fixture(scope="module")
def hundred(sandbox):
    """Fill the inbox with scheduled, delivered, failed and cancelled messages on several channels."""
    sandbox.reset()
    ids = []
    with pytest.MonkeyPatch.context() as patch, OmnimessageHook() as hook:
        patch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", sandbox.airflow_conn)
        for number in range(HUNDRED):
            text = f"Report {number} is late. Отчёт опаздывает. Aruanne jääb hiljaks."
            if number % 8 == 7:  # a long word must not widen the page
                text = f"{text} https://example.com/{'a' * 80}"
            kinds = [
                [sms(text, autoconvert="full" if number % 2 else None)],
                [viber(text, ttl=60), sms(text)],
                [whatsapp(text), viber(text), sms(text)],
            ]
            when = timedelta(hours=1, minutes=number) if number % 2 else None
            to = f"+3725555{number % 19:04d}" if number % 19 != 5 else "+37255550100"
            ids.append(hook.send(to, kinds[number % 3], time_to_send=when).omnimessage_id)
        hook.cancel(ids[1])
    sandbox.advance(60)
    return ids


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_inbox_shows_a_hundred_messages(browser, sandbox, hundred, picture, size, scheme):
    page = browser.new_page(viewport=size, color_scheme=scheme)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(sandbox.inbox_url)
    expect(page.get_by_text("Report ", exact=False).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")[:3])
    assert (brightness < 384) == (scheme == "dark")
    picture(page, f"inbox-{'phone' if size is PHONE else 'desktop'}-{scheme}")
    page.get_by_role("searchbox").fill(hundred[-1])
    expect(page.locator(f"[id='{hundred[-1]}']")).to_be_visible()
    page.goto(f"{sandbox.inbox_url}#{hundred[0]}")
    expect(page.locator(f"[id='{hundred[0]}']")).to_be_in_viewport()
    assert errors == []
    page.close()
