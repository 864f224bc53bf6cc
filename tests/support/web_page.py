"""Helpers for tests of the page in a real browser."""

import json
import shutil
import time
from contextlib import contextmanager

import pytest
from paths import ROOT
from serving import KEY
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 60_000  # ms
PICTURES = ROOT / "soak" / "screenshots"
BROWSER = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")]


@contextmanager
def visit(browser, server):
    """Open the page with the link that the server prints. Any logged error fails the test."""
    opened = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    opened.set_default_timeout(SECONDS)
    problems = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    opened.goto(f"{server.base}/#key={KEY}")
    opened.wait_for_selector("#studio:not([hidden])")
    yield opened
    opened.close()
    assert not problems


def until(page, condition):
    """Wait until an expression is true in the page, whose content security policy forbids evaluating code from within."""
    end = time.monotonic() + SECONDS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def plays(page, name="upscaled"):
    """Wait until a video plays; return its size."""
    until(page, f"document.getElementById('{name}').currentTime > 0.3")
    return page.evaluate(f"[{name}.videoWidth, {name}.videoHeight]")


def is_undivided(page):
    """Report whether the result is shown whole, because there is no original to compare it with."""
    hidden = all(page.locator(name).is_hidden() for name in ("#line", ".tag.left"))
    return hidden and page.is_disabled("#divider") and page.evaluate("upscaled.style.clipPath") == "inset(0px)"


def goes_on(page, seconds=3):
    """Wait until a video has advanced by this much, and check that the browser discarded nothing."""
    before = page.evaluate("upscaled.currentTime")
    for step in range(1, 5 * seconds + 1):
        until(page, f"upscaled.currentTime > {before + step / 5}")
        assert page.evaluate("upscaled.buffered.length") == 1


def picture(page, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def status(page, number=0):
    return page.locator("#jobs tr").nth(number).locator("td").nth(2)


@contextmanager
def sending(server, frames):
    """Start a live job from the test. Return its id, and a function that sends up to a frame and waits for that many results."""
    sent = seen = 0

    def send(*, upto, results):
        nonlocal sent, seen
        sender.send(b"".join(frames[sent:upto]))
        sent = upto
        while seen < results:
            message = sender.recv(timeout=60)
            header = json.loads(message) if isinstance(message, str) else {}
            # A viewer who also sends is not shown all of a burst of frames: the server skips some.
            seen += ("fragment" in header) + header.get("dropped", {}).get("frames", 0)

    with connect(f"ws{server.base[4:]}/api/v2/live", max_size=None, open_timeout=60) as sender:
        start = {"model": "RealESRGAN_Vid_x2", "segment_seconds": 5, "when_slow": "drop"}
        start["preset"] = "ultrafast"  # this preset inserts no keyframes by itself
        sender.send(json.dumps({"key": KEY, "start": start}))
        yield json.loads(sender.recv(timeout=60))["accepted"]["request_id"], send
