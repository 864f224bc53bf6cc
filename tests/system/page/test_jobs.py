"""The list of jobs, the key and the layout of the page, in a real browser."""

import time

import pytest
from serving import KEY, Rpc
from web_page import BROWSER, SECONDS, picture, plays, until

from upres.v2 import upscale_pb2 as pb

pytestmark = BROWSER


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


def test_a_job_that_ends_before_the_page_is_subscribed_to_changes_is_listed(browser, server, clip):
    """It is made between the page's first list and its subscription, and nothing about it is reported later."""
    source, request_ids = clip("a.mp4", 1).read_bytes(), []

    def hold(route):
        if not request_ids:
            with Rpc(server.target) as rpc:
                request_ids.append(rpc.create(source, pb.UpscaleConfig(model="RealESRGAN_Vid_x2")).request_id)
                assert list(rpc.watch(request_ids[0]))[-1].event == "done"
        route.continue_()

    page = browser.new_page()
    page.route("**/broadcasting/auth", hold)
    page.goto(f"{server.base}/#key={KEY}")
    end = time.monotonic() + SECONDS / 1000
    while not request_ids or not page.query_selector(f"#jobs tr[data-id='{request_ids[0]}']"):
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
    assert page.text_content("#progress") == page.text_content("#speed") == "–"
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
    violations = axe.Axe().run(page).response["violations"]
    assert not [(rule["id"], rule["help"]) for rule in violations if rule["impact"] in ("serious", "critical")]
    picture(page, f"phone-{scheme}")
    assert page.evaluate(JOB_ROW) == 1  # lines of the model's name
    page.close()


def test_the_page_loads_nothing_from_elsewhere_and_no_page_can_frame_it(server, browser):
    page = browser.new_page()
    urls = []
    page.on("request", lambda request: urls.append(request.url))
    answer = page.goto(server.base)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert urls and all(url.startswith(server.base) for url in urls)
    page.close()
