"""The whole export, from weight files to verified graphs."""

import importlib
import os

import pytest

from upres.engine.models.flashvsr.manifest import read

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from small_flashvsr import write_files  # noqa: E402 - after the check for torch

from upres.export.flashvsr.exporter import export_flashvsr  # noqa: E402
from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return write_files(tmp_path / "FlashVSR-v1.1", monkeypatch)


@pytest.mark.parametrize(
    ("precision", "version"), [("fp32", "v1.1"), ("fp32", "v1"), ("fp16", "v1.1"), ("bf16", "v1.1")]
)
def test_an_export_is_verified_against_pytorch(folder, tmp_path, precision, version):
    settings = Settings(profiles=((128, 256),), precision=precision)
    manifest = export_flashvsr(folder, tmp_path / "out", version=version, settings=settings, verify=True)
    assert read(tmp_path / "out") == manifest
    assert (manifest.version, manifest.weights, manifest.experimental) == (version, "trained", True)
    limit = {"fp32": 1e-5, "fp16": 2e-2, "bf16": 5e-2}[precision]
    assert 0 < max(manifest.verified.values()) < limit, manifest.verified


def test_v1_and_v1_1_are_not_the_same(folder, tmp_path):
    settings = Settings(profiles=((128, 128),))
    hashes = {
        version: export_flashvsr(folder, tmp_path / version, version=version, settings=settings).graphs[
            "projector.onnx"
        ]
        for version in ("v1", "v1.1")
    }
    assert hashes["v1"] != hashes["v1.1"]
