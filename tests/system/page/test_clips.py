"""Clips that are dropped on the page or selected, in a real browser."""

import struct

from web_page import BROWSER, goes_on, is_undivided, picture, plays, until, visit

pytestmark = BROWSER


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
    routes = []
    page.route("**/api/v2/videos/upscales", lambda route: routes.append(route))
    page.set_input_files("#file", clip("page.mp4", 6, "-c:v", "libx264", "-pix_fmt", "yuv420p"))
    until(page, "!document.getElementById('stop').disabled")
    with page.expect_event("requestfailed"):  # the page stops requesting it
        page.click("#camera")
    assert routes and plays(page) == [640, 480]
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
