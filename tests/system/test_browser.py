"""The page in a real browser, against a real server: what a person does with it."""

import shutil
import time
from contextlib import contextmanager

import media
import pytest
from paths import ROOT
from serving import KEY, ServerProcess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")]
FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
NOISE = "nullsrc=size=320x240:rate=10:duration=2,geq=random(1)*255:128:128"
SECONDS = 60_000  # ms
PICTURES = ROOT / "soak" / "screenshots"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state") as process:
        yield process.ready()


@pytest.fixture(scope="module")
def playwright():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright):
    with playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as opened:
        yield opened


@pytest.fixture
def restless(playwright, tmp_path):
    """A browser whose camera sees something else everywhere at each moment."""
    media.ffmpeg("-f", "lavfi", "-i", NOISE, "-pix_fmt", "yuv420p", tmp_path / "noise.y4m")
    flags = [*FLAGS, f"--use-file-for-fake-video-capture={tmp_path / 'noise.y4m'}"]
    with playwright.chromium.launch(executable_path=CHROMIUM, args=flags) as opened:
        yield opened


@contextmanager
def visit(browser, server):
    """Open the page by the link that the server prints; whatever it logs as an error fails the test."""
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


@pytest.fixture
def page(browser, server):
    with visit(browser, server) as opened:
        yield opened


def until(page, condition):
    """Wait until this is true in the page; its policy lets nothing be evaluated there by itself."""
    end = time.monotonic() + SECONDS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def plays(page, name="upscaled"):
    """Wait until a picture moves; give its size."""
    until(page, f"document.getElementById('{name}').currentTime > 0.3")
    return page.evaluate(f"[{name}.videoWidth, {name}.videoHeight]")


def picture(page, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def status(page, number=0):
    return page.locator("#jobs tr").nth(number).locator("td").nth(2)


def test_a_dropped_clip_plays_while_it_is_made_and_its_result_afterwards(page, clip):
    page.select_option("#model", "RealESRGAN_Vid_x2")
    page.set_input_files("#file", clip("page.mp4", 6, "-c:v", "libx264", "-pix_fmt", "yuv420p"))
    assert plays(page) == [128, 96]
    assert page.evaluate("original.videoWidth") == 64
    page.focus("#stage")
    before = page.input_value("#divider")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#divider") != before
    assert "64x48 → 128x96" in page.text_content("#size")
    picture(page, "preview-1440")
    with page.expect_download() as saved:
        page.click("#still")
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    until(page, "document.querySelector('#jobs tr td:nth-child(3)').textContent === 'done'")
    page.click("#stop")
    page.locator("#jobs tr").first.get_by_text("Play").click()
    assert plays(page) == [128, 96]


def test_the_camera_is_upscaled_live_and_the_model_can_be_changed_meanwhile(page):
    page.select_option("#model", "RealESRGAN_Vid_x2")
    page.click("#camera")
    width, height = plays(page)
    assert (width, height) == (640, 480)
    until(page, "document.getElementById('delay').textContent.includes('ms')")
    picture(page, "camera-1440")
    page.select_option("#content", "live")
    until(page, "upscaled.readyState === 0 || upscaled.currentTime < 0.3")
    assert plays(page) == [640, 480]
    page.select_option("#content", "")
    page.select_option("#model", "RealESRGAN_Vid_x4")
    until(page, "upscaled.videoWidth === 1280 && upscaled.currentTime > 0.3")
    page.click("#stop")
    assert page.evaluate("original.srcObject") is None


def goes_on(page, seconds=3):
    """Wait until a picture has moved by so much, however much of it was left out."""
    before = page.evaluate("upscaled.currentTime")
    until(page, f"upscaled.currentTime > {before + seconds}")


def test_frames_that_are_left_out_stall_neither_the_sender_nor_one_who_joins_late(restless, server):
    with visit(restless, server) as page, visit(restless, server) as late:
        page.select_option("#model", "RealESRGAN_Vid_x4")  # far too slow on a CPU for this camera
        page.click("#camera")
        plays(page)
        until(page, "upscaled.currentTime > 15")  # the first ten seconds are kept no longer
        if page.evaluate("parseInt(document.getElementById('dropped').textContent) < 5"):
            pytest.skip("this machine keeps up with the camera")
        late.locator("#jobs tr").first.get_by_text("Watch").click()
        assert plays(late) == page.evaluate("[upscaled.videoWidth, upscaled.videoHeight]")
        goes_on(late)
        goes_on(page)
        late.click("#stop")
        page.click("#stop")


def test_a_job_is_cancelled(page):
    page.click("#camera")
    plays(page)
    page.locator("#jobs tr").first.get_by_text("Cancel").click()
    until(page, "document.querySelector('#jobs tr td:nth-child(3)').textContent === 'cancelled'")
    page.click("#stop")


def test_a_wrong_key_is_told_so_and_asked_for(browser, server):
    page = browser.new_page()
    page.goto(server.base)
    page.fill("#key", "wrong")
    page.click("#key-form button")
    page.wait_for_selector("#message:not([hidden])")
    assert page.text_content("#message") == "This key is not known to the server."
    page.fill("#key", KEY)
    page.click("#key-form button")
    page.wait_for_selector("#studio:not([hidden])")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, server, scheme):
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.goto(f"{server.base}/#key={KEY}")
    page.wait_for_selector("#studio:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    assert not [(rule["id"], rule["help"]) for rule in found if rule["impact"] in ("serious", "critical")]
    picture(page, f"phone-{scheme}")
    page.close()


def test_the_page_loads_nothing_from_elsewhere_and_no_page_can_frame_it(server, browser):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(server.base)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert asked and all(url.startswith(server.base) for url in asked)
    page.close()
