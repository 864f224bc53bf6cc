"""The web page in a real browser against a real server, used as a person does."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from camera import Camera, recorded
from paths import ROOT
from serving import KEY, Rpc, ServerProcess
from websockets.sync.client import connect

from upres.v2 import upscale_pb2 as pb

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")]
FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
SECONDS = 60_000  # ms
PICTURES = ROOT / "soak" / "screenshots"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Camera() as entrance:
        streams = {"entrance": f"tcp://localhost:{entrance.port}"}
        with ServerProcess(tmp_path_factory.mktemp("server") / "state", live_sources=streams) as process:
            process.entrance = entrance
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


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory):
    """Return a server whose models are slower than any camera."""
    with ServerProcess(tmp_path_factory.mktemp("slow") / "state", models="fake:slow") as process:
        yield process.ready()


@pytest.fixture(scope="module")
def stepping_server(tmp_path_factory):
    """Return a server whose models are slower than any camera, except the light ones."""
    with ServerProcess(tmp_path_factory.mktemp("stepping") / "state", models="fake:stepping") as process:
        yield process.ready()


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


@pytest.fixture
def page(browser, server):
    with visit(browser, server) as opened:
        yield opened


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


def picture(page, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def status(page, number=0):
    return page.locator("#jobs tr").nth(number).locator("td").nth(2)


def test_a_dropped_clip_plays_while_it_is_made_and_its_result_afterwards(page, clip):
    page.select_option("#model", "RealESRGAN_Vid_x2")
    page.set_input_files("#file", clip("page.mp4", 6, "-c:v", "libx264", "-pix_fmt", "yuv420p"))
    assert plays(page) == [128, 96]
    assert page.evaluate("original.videoWidth") == 64 and not is_undivided(page)
    page.focus("#stage")
    before = page.input_value("#divider")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#divider") != before
    assert "64x48 → 128x96" in page.text_content("#size")
    until(page, "document.getElementById('speed').textContent.endsWith(' frames/s; shown at 10')")
    assert (page.text_content("#network"), page.text_content("#device")) == ("nearest-x2", "on numpy")
    page.check("#step-down")  # applies to live sources, so this one continues
    page.wait_for_selector("#advice:not([hidden])")
    assert "Interlaced: none." in page.text_content("#measured") and "540p" in page.text_content("#rules")
    picture(page, "preview-1440")
    with page.expect_download() as saved:
        page.click("#still")
    still = saved.value.path().read_bytes()
    assert still.startswith(b"\x89PNG") and still[16:24] == struct.pack(">2I", 2 * 128, 96)  # both, side by side
    until(page, "document.querySelector('#jobs tr td:nth-child(3)').textContent === 'done'")
    page.click("#stop")
    page.locator("#jobs tr").first.get_by_text("Play").click()
    assert plays(page) == [128, 96] and plays(page, "original") == [64, 48]  # after and before


def test_what_the_browser_cannot_play_is_made_smaller(page, clip):
    page.evaluate(
        """() => {
            const asked = MediaSource.isTypeSupported;
            MediaSource.isTypeSupported = (type) => {
                const video = type.startsWith("video");
                if (video) MediaSource.isTypeSupported = asked;
                return !video;
            };
        }"""
    )
    page.select_option("#model", "RealESRGAN_Vid_x4")
    page.set_input_files("#file", clip("page.mp4", 6, "-c:v", "libx264", "-pix_fmt", "yuv420p"))
    assert plays(page) == [128, 96]
    assert "The result is made smaller: RealESRGAN" in page.text_content("#message")
    page.click("#stop")


def test_another_model_takes_the_place_of_a_job_that_it_would_wait_for(browser, slow_server, clip):
    source = clip("replaced.mp4", 120, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    with visit(browser, slow_server) as page:
        page.select_option("#model", "RealESRGAN_Vid_x2")
        page.set_input_files("#file", source)
        plays(page)
        until(page, "document.querySelector('#jobs tr td:nth-child(3)').textContent.startsWith('running')")
        page.select_option("#model", "RealESRGAN_Vid_x4")
        until(page, "document.querySelector('#jobs tr:nth-child(2) td:nth-child(3)')?.textContent === 'cancelled'")
        until(page, "upscaled.videoWidth === 256 && upscaled.currentTime > 0.3")
        page.locator("#jobs tr").first.get_by_text("Cancel").click()
        page.click("#stop")


def test_a_file_that_is_still_sent_gives_way_to_what_is_chosen_next(page, clip):
    held = []
    page.route("**/api/v2/videos/upscales", lambda route: held.append(route))
    page.set_input_files("#file", clip("page.mp4", 6, "-c:v", "libx264", "-pix_fmt", "yuv420p"))
    until(page, "!document.getElementById('stop').disabled")
    with page.expect_event("requestfailed"):  # the page stops requesting it
        page.click("#camera")
    assert held and plays(page) == [640, 480]
    goes_on(page, 1)
    assert page.evaluate("original.srcObject !== null && upscaled.videoWidth === 640")
    page.click("#stop")


def test_what_the_browser_has_no_room_for_is_shown_later(page, clip):
    page.evaluate(
        """() => {
            const append = SourceBuffer.prototype.appendBuffer, full = new DOMException("full", "QuotaExceededError");
            SourceBuffer.prototype.appendBuffer = function (data) {
                if (this.buffered.length && this.buffered.end(0) > upscaled.currentTime + 1) throw full;
                append.call(this, data);
            };
        }"""
    )
    page.set_input_files("#file", clip("page.mp4", 6, "-c:v", "libx264", "-pix_fmt", "yuv420p"))
    until(page, "upscaled.ended")
    assert page.evaluate("[upscaled.buffered.length, upscaled.getVideoPlaybackQuality().totalVideoFrames]") == [1, 60]
    assert page.text_content("#play") == "Play"
    page.click("#play")
    until(page, "!upscaled.paused || upscaled.ended")
    page.click("#stop")


def test_the_picture_is_zoomed_and_moved_by_keys_and_by_two_fingers(page, clip):
    page.set_input_files("#file", clip("page.mp4", 6, "-c:v", "libx264", "-pix_fmt", "yuv420p"))
    plays(page)
    page.focus("#stage")
    for key in ("+", "+", "ArrowDown", "Shift+ArrowRight"):
        page.keyboard.press(key)
    assert page.input_value("#divider") == "50" and page.evaluate("new DOMMatrix(pictures.style.transform).a") == 2.25
    before = page.evaluate("new DOMMatrix(pictures.style.transform).e")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("new DOMMatrix(pictures.style.transform).e") > before
    page.keyboard.press("0")
    assert page.evaluate("new DOMMatrix(pictures.style.transform).a") == 1
    for kind, finger, x in (("down", 1, 300), ("down", 2, 400), ("move", 2, 500), ("up", 2, 500), ("up", 1, 300)):
        page.evaluate(
            """([kind, pointerId, clientX]) => {
                stage.setPointerCapture = () => {};  // there is no such finger
                stage.dispatchEvent(new PointerEvent(`pointer${kind}`, { pointerId, clientX, clientY: 300 }));
            }""",
            [kind, finger, x],
        )
    assert page.evaluate("new DOMMatrix(pictures.style.transform).a") == 2
    page.click("#stop")


def test_the_camera_is_upscaled_live_and_the_model_can_be_changed_meanwhile(page):
    page.select_option("#model", "RealESRGAN_Vid_x2")
    page.click("#camera")
    width, height = plays(page)
    assert (width, height) == (640, 480)
    until(page, "document.getElementById('delay').textContent.includes('ms')")
    until(page, "document.querySelectorAll('#stages path').length === 3")
    assert " of " in page.text_content("#speed") and "upscale" in page.text_content("#stages")
    picture(page, "camera-1440")
    page.select_option("#content", "live")
    until(page, "upscaled.readyState === 0 || upscaled.currentTime < 0.3")
    assert plays(page) == [640, 480]
    page.select_option("#content", "")
    page.select_option("#model", "RealESRGAN_Vid_x4")
    until(page, "upscaled.videoWidth === 1280 && upscaled.currentTime > 0.3")
    page.click("#stop")
    assert page.evaluate("original.srcObject") is None


def test_a_stream_of_the_operators_is_chosen_by_its_name_and_upscaled(page, server, clip):
    server.entrance.pieces.append(clip("page.ts", 6, "-c:v", "libx264", "-pix_fmt", "yuv420p").read_bytes())
    page.select_option("#model", "RealESRGAN_Vid_x2")
    page.select_option("#stream", "entrance")
    assert plays(page) == [128, 96]
    picture(page, "stream-1440")
    with page.expect_download() as saved:
        page.click("#still")
    assert saved.value.path().read_bytes()[16:24] == struct.pack(">2I", 128, 96)  # only the result
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    assert is_undivided(page)
    page.click("#stop")
    assert page.input_value("#stream") == ""


def test_a_live_run_is_watched_by_the_address_that_it_prints(browser, clip):
    command = [sys.executable, "-c", "from upres.service.cli.main import main; main()", "live", "--preview"]
    source = clip("long.mp4", 120, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    with subprocess.Popen([*command, source, "--scale", "2"], stderr=subprocess.PIPE, text=True) as running:
        try:
            url = next(line for line in running.stderr if "preview: " in line).partition("preview: ")[2].strip()
            opened = browser.new_page(viewport={"width": 1440, "height": 900})
            opened.set_default_timeout(SECONDS)
            opened.goto(url)
            assert plays(opened) == [128, 96]
            assert all(opened.locator(name).is_hidden() for name in ("#choices", "#list")) and is_undivided(opened)
            assert opened.text_content("#network") == "realesr-live-x2" and "CPU" in opened.text_content("#device")
            picture(opened, "preview-of-a-run-1440")
            opened.close()
        finally:
            running.send_signal(signal.SIGINT)
            running.stderr.read()


def goes_on(page, seconds=3):
    """Wait until a video has advanced by this much, and check that the browser discarded nothing."""
    before = page.evaluate("upscaled.currentTime")
    for step in range(1, 5 * seconds + 1):
        until(page, f"upscaled.currentTime > {before + step / 5}")
        assert page.evaluate("upscaled.buffered.length") == 1


def test_frames_that_are_left_out_stall_neither_the_sender_nor_one_who_joins_late(browser, slow_server):
    with visit(browser, slow_server) as page, visit(browser, slow_server) as late:
        page.click("#camera")
        plays(page)
        goes_on(page, 12)  # the first ten seconds are no longer buffered
        until(page, "parseInt(document.getElementById('dropped').textContent) > 50")
        late.locator("#jobs tr").first.get_by_text("Watch").click()
        assert plays(late) == page.evaluate("[upscaled.videoWidth, upscaled.videoHeight]")
        assert is_undivided(late) and not is_undivided(page)
        goes_on(late)
        goes_on(page)
        late.click("#stop")
        page.click("#stop")


def test_a_lighter_network_takes_over_while_the_picture_plays_on(browser, stepping_server):
    with visit(browser, stepping_server) as page:
        page.select_option("#model", "RealESRGAN_Vid_x4")
        page.check("#step-down")
        page.click("#camera")
        size = plays(page)
        until(page, "document.getElementById('network').textContent.startsWith('light-x')")
        assert "slow-x4 is too slow here for this source" in page.text_content("#notes")
        goes_on(page)
        assert page.evaluate("[upscaled.videoWidth, upscaled.videoHeight]") == size == [1280, 960]
        picture(page, "stepped-down-1440")
        page.click("#stop")


def test_a_hole_in_the_source_is_passed_over(page, server):
    """Two seconds are missing and no frame was extended to cover the gap, so the browser accepts only a keyframe then."""
    with sending(server, recorded([*range(60), *range(80, 90)])) as (request_id, send):
        page.locator(f"#jobs tr[data-id='{request_id}']").get_by_text("Watch").click()
        # In MPEG-TS a frame is complete when the next one starts; the one before the gap is not.
        send(upto=62, made=60)
        send(upto=70, made=68)
        until(page, "upscaled.currentTime > 8.5")
        page.click("#stop")


@contextmanager
def sending(server, frames):
    """Start a live job from the test. Return its id, and a function that sends up to a frame and waits for that many results."""
    sent = seen = 0

    def send(*, upto, made):
        nonlocal sent, seen
        sender.send(b"".join(frames[sent:upto]))
        sent = upto
        while seen < made:
            message = sender.recv(timeout=60)
            said = json.loads(message) if isinstance(message, str) else {}
            # A viewer who also sends is not shown all of a burst of frames: the server skips some.
            seen += ("fragment" in said) + said.get("dropped", {}).get("frames", 0)

    with connect(f"ws{server.base[4:]}/api/v2/live", max_size=None, open_timeout=60) as sender:
        start = {"model": "RealESRGAN_Vid_x2", "segment_seconds": 5, "when_slow": "drop"}
        start["preset"] = "ultrafast"  # this preset inserts no keyframes by itself
        sender.send(json.dumps({"key": KEY, "start": start}))
        yield json.loads(sender.recv(timeout=60))["accepted"]["request_id"], send


@pytest.fixture(scope="session")
def hls_js(request):
    """Return hls.js, an independent player, downloaded once with npm."""
    folder = request.config.cache.mkdir("hls.js")
    if not (found := list(folder.glob("*.tgz"))):
        if not shutil.which("npm") and not os.environ.get("CI"):
            pytest.skip("needs npm on the PATH")
        subprocess.run(["npm", "pack", "hls.js@1.7.4"], cwd=folder, check=True, capture_output=True, timeout=300)
        found = list(folder.glob("*.tgz"))
    with tarfile.open(found[0]) as archive:
        return archive.extractfile("package/dist/hls.min.js").read().decode()


HLS_ADDRESS = """fetch("/api/v2/jobs", { headers: { Authorization: `Bearer ${sessionStorage["upres.key"]}` } })
    .then((answer) => answer.json()).then(({ data }) => data[0].hls_url)"""
PLAYER = """<video muted></video><script src="/hls.js"></script><script>
const video = document.querySelector("video"), errors = [];
const hls = new Hls({ lowLatencyMode: true });
hls.on(Hls.Events.ERROR, (_, data) => data.fatal && errors.push(data.details));
hls.on(Hls.Events.MANIFEST_PARSED, () => video.play());
hls.loadSource(decodeURIComponent(location.search.slice(1)));
hls.attachMedia(video);
</script>"""


def test_hls_js_plays_a_live_job_and_stays_near_its_end(page, browser, server, hls_js):
    page.click("#camera")
    plays(page)
    address = page.evaluate(HLS_ADDRESS)
    page.context.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
    page.click("#address")
    until(page, "document.getElementById('address').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == address
    player = browser.new_page()
    player.route("**/hls.js", lambda route: route.fulfill(body=hls_js, content_type="text/javascript"))
    player.route("**/player?**", lambda route: route.fulfill(body=PLAYER, content_type="text/html"))
    player.goto(f"{server.base}/player?{quote(address, safe='')}")
    until(player, "video.currentTime > 0 && !video.paused")
    start = player.evaluate("video.currentTime")
    until(player, f"video.currentTime > {start + 5}")
    size = page.evaluate("[upscaled.videoWidth, upscaled.videoHeight]")
    assert player.evaluate("[video.videoWidth, video.videoHeight]") == size
    assert player.evaluate("hls.lowLatencyMode && hls.levels[0].details.partList.length > 0")
    assert player.evaluate("errors") == []
    player.close()
    page.click("#stop")


def test_a_job_that_ends_before_the_page_is_subscribed_to_changes_is_listed(browser, server, clip):
    """It is made between the page's first list and its subscription, and nothing about it is reported later."""
    source, made = clip("a.mp4", 1).read_bytes(), []

    def hold(route):
        if not made:
            with Rpc(server.target) as rpc:
                made.append(rpc.create(source, pb.UpscaleConfig(model="RealESRGAN_Vid_x2")).request_id)
                assert list(rpc.watch(made[0]))[-1].event == "done"
        route.continue_()

    page = browser.new_page()
    page.route("**/broadcasting/auth", hold)
    page.goto(f"{server.base}/#key={KEY}")
    end = time.monotonic() + SECONDS / 1000
    while not made or not page.query_selector(f"#jobs tr[data-id='{made[0]}']"):
        assert time.monotonic() < end
        page.wait_for_timeout(50)
    page.close()


def test_a_job_is_cancelled(page):
    page.click("#camera")
    plays(page)
    page.locator("#jobs tr").first.get_by_text("Cancel").press("Enter")
    until(page, "document.querySelector('#jobs tr td:nth-child(3)').textContent === 'cancelled'")
    assert page.evaluate("document.activeElement.ariaLabel") == "Jobs, newest first"  # keyboard focus is kept
    until(page, "original.srcObject.getTracks().every((track) => track.readyState === 'ended')")
    assert page.is_hidden("#address")  # the address of a finished job
    page.select_option("#content", "live")  # restarts nothing
    page.click("#stop")
    assert page.text_content("#made") == page.text_content("#speed") == "–"
    assert page.evaluate("original.srcObject") is None


def test_a_wrong_key_is_told_so_and_asked_for(browser, server):
    page = browser.new_page()
    page.goto(server.base)
    page.fill("#key", "wrong")
    page.click("#key-form button")
    page.wait_for_selector("#message:not([hidden])")
    assert page.text_content("#message") == "The server does not know this key."
    page.fill("#key", KEY)
    page.click("#key-form button")
    page.wait_for_selector("#studio:not([hidden])")
    page.close()


JOB_ROW = """() => {
  document.getElementById("list").hidden = false;
  const row = document.getElementById("jobs").insertRow();
  for (const text of ["10:00:00 PM", "RealESRGAN_Vid_x4 (live)", "running", ""]) row.insertCell().textContent = text;
  for (const text of ["Play", "Download", "Delete"]) row.cells[3].appendChild(document.createElement("button")).textContent = text;
  const name = document.createRange();
  name.selectNodeContents(row.cells[1]);
  return name.getClientRects().length;
}"""


FAILED_ROW = """(reason) => {
  document.getElementById("list").hidden = false;
  const row = document.getElementById("jobs").insertRow();
  for (const text of ["10:00:00 PM", "RealESRGAN_Vid_x4 (live)", "failed: " + reason, "x"]) row.insertCell().textContent = text;
  return row.cells[3].getBoundingClientRect().right;
}"""


@pytest.mark.parametrize("width", [768, 1440])
def test_a_long_reason_of_a_failure_does_not_push_the_actions_of_jobs_out_of_sight(browser, server, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"{server.base}/#key={KEY}")
    page.wait_for_selector("#studio:not([hidden])")
    assert page.evaluate(FAILED_ROW, "this MP4's index lies behind its media; send another format. " * 5) <= width
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
    assert page.evaluate(JOB_ROW) == 1  # lines of the model's name
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
