"""A browser, and servers with models of different speed."""

import pytest
from camera import Camera
from serving import ServerProcess
from web_page import CHROMIUM, visit

FLAGS = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]


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


@pytest.fixture
def page(browser, server):
    with visit(browser, server) as opened:
        yield opened
