"""Live jobs on the page and in hls.js, in a real browser."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
from urllib.parse import quote

import pytest
from camera import recorded
from web_page import BROWSER, SECONDS, goes_on, is_undivided, picture, plays, sending, until, visit

pytestmark = BROWSER


@pytest.fixture(scope="session")
def hls_js(request):
    """Return hls.js, an independent player, downloaded once with npm."""
    folder = request.config.cache.mkdir("hls.js")
    if not (archives := list(folder.glob("*.tgz"))):
        if not shutil.which("npm") and not os.environ.get("CI"):
            pytest.skip("needs npm on the PATH")
        subprocess.run(["npm", "pack", "hls.js@1.7.4"], cwd=folder, check=True, capture_output=True, timeout=300)
        archives = list(folder.glob("*.tgz"))
    with tarfile.open(archives[0]) as archive:
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
        send(upto=62, results=60)
        send(upto=70, results=68)
        until(page, "upscaled.currentTime > 8.5")
        page.click("#stop")


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
