"""The built documentation in Chromium, at desktop and phone width."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from _airflow import ROOT

from .conftest import DESKTOP, PHONE

CUT_OFF = """
() => [...document.querySelectorAll("article *")].filter(element => {
    if (element.getBoundingClientRect().right <= document.documentElement.clientWidth + 1) return false;
    for (let around = element; around.tagName !== "ARTICLE"; around = around.parentElement)
        if (["auto", "scroll"].includes(getComputedStyle(around).overflowX)) return false;
    return true;
}).map(element => element.outerHTML.slice(0, 80))
"""
"""Finds elements that are cut off at the right edge, because neither the page nor a parent scrolls sideways."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build the documentation, and return its pages."""
    built = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-d", str(built / "doctrees")]
    subprocess.run([*command, str(ROOT / "docs"), str(built / "html")], check=True, timeout=300)
    inner = {"genindex.html", "search.html", "py-modindex.html"}
    return sorted(page for page in (built / "html").rglob("*.html") if page.name not in inner)


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "light"), (DESKTOP, "dark")], ids=["phone", "desktop"])
def test_every_page_fits_shows_its_pictures_and_requests_nothing_else(browser, pages, viewport, scheme):
    urls, wide, broken = set(), [], []
    page = browser.new_page(viewport=viewport, color_scheme=scheme)
    page.on(
        "request",
        lambda request: urls.add(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    for path in pages:
        page.goto(path.as_uri())
        name = f"{path.parent.name}/{path.name}"
        wide += [f"{name}: {element}" for element in page.evaluate(CUT_OFF)]
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            wide.append(name)
        # those further down are loaded when they are scrolled to
        page.evaluate("for (const image of document.images) image.loading = 'eager'")
        page.wait_for_function("[...document.images].every(image => image.complete)")
        broken += page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)")
    page.close()
    assert len(pages) > 30
    assert (wide, broken, urls) == ([], [], set())
