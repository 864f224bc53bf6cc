"""FlashVSR's weight files: original and repacked names, versions, what is missing; the whole export from them."""

import importlib
import os

import numpy as np
import pytest
from upres.engine.errors import ModelError
from upres.engine.flashvsr_manifest import read

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402 - after the check for torch
from upres.export.flashvsr import export_flashvsr  # noqa: E402
from upres.export.flashvsr_files import read_folder  # noqa: E402
from upres.export.flashvsr_onnx import Settings  # noqa: E402
from upres.export.flashvsr_weights import Configuration, random_weights  # noqa: E402

SMALL = Configuration(
    dim=256, heads=2, layers=1, ffn=96, text_dim=24, freq_dim=16, projector=(8, 12), decoder=(8, 8, 4, 4)
)
DIT = "diffusion_pytorch_model_streaming_dmd.safetensors"


@pytest.fixture(scope="module")
def weights():
    return random_weights(SMALL, prompt_tokens=20)


@pytest.fixture
def folder(weights, tmp_path, monkeypatch):
    """The four files under their original names, in a folder that tells the version."""
    path = tmp_path / "FlashVSR-v1.1"
    path.mkdir()
    save_file(as_torch(weights.dit), path / DIT)
    monkeypatch.setattr("upres.export.flashvsr_files.DIT_BYTES", (path / DIT).stat().st_size)
    torch.save(as_torch(weights.lq, torch.bfloat16), path / "LQ_proj_in.ckpt")
    torch.save({"state_dict": as_torch(weights.tc)}, path / "TCDecoder.ckpt")
    torch.save(torch.from_numpy(weights.prompt), path / "posi_prompt.pth")
    return path


def as_torch(tensors, dtype=torch.float32, prefix=""):
    return {prefix + key: torch.from_numpy(tensors[key]).to(dtype).contiguous() for key in tensors}


def test_original_files_are_read_by_their_keys(weights, folder):
    found = read_folder(folder)
    assert found.configuration == SMALL
    assert (found.version, found.origin) == ("v1.1", "trained")
    assert found.prompt.shape == (1, 20, 24)
    for part in ("dit", "tc"):
        ours, theirs = getattr(weights, part), getattr(found, part)
        assert all((ours[key] == theirs[key]).all() for key in ours)
    assert np.abs(found.lq["conv1.weight"] - weights.lq["conv1.weight"]).max() < 2**-8


def test_repacked_names_and_prefixes_are_taken(weights, tmp_path):
    save_file(as_torch(weights.dit, prefix="model.diffusion_model."), tmp_path / "FlashVSR1_1.safetensors")
    save_file(as_torch(weights.lq, prefix="lq."), tmp_path / "LQ_proj_in.safetensors")
    save_file(as_torch(weights.tc), tmp_path / "TCDecoder.safetensors")
    save_file({"prompt": torch.from_numpy(weights.prompt[0])}, tmp_path / "Prompt.safetensors")
    found = read_folder(tmp_path)
    assert found.version == "v1.1"
    assert found.prompt.shape == (1, 20, 24)
    assert set(found.lq) == set(weights.lq)


def test_everything_that_is_missing_is_named_with_where_it_comes_from(folder):
    (folder / "posi_prompt.pth").unlink()
    (folder / "TCDecoder.ckpt").unlink()
    plain = folder.rename(folder.parent / "weights")
    with pytest.raises(ModelError) as error:
        read_folder(plain)
    for text in (
        "posi_prompt.pth is missing (from the git repository",
        "TCDecoder.ckpt is missing",
        "--weights-version",
    ):
        assert text in str(error.value)


def test_a_truncated_file_is_named_with_the_size_it_should_have(folder, monkeypatch):
    monkeypatch.setattr("upres.export.flashvsr_files.DIT_BYTES", 5_676_070_392)
    with pytest.raises(ModelError, match="expected 5676070392: fetch it again"):
        read_folder(folder)


def test_a_pickle_that_holds_more_than_tensors_is_refused(folder):
    torch.save({"call": os.system}, folder / "TCDecoder.ckpt")
    with pytest.raises(ModelError, match=r"TCDecoder\.ckpt cannot be read as tensors"):
        read_folder(folder)


@pytest.mark.parametrize(("precision", "version"), [("fp32", "v1.1"), ("fp32", "v1"), ("fp16", "v1.1")])
def test_an_export_is_verified_against_pytorch(folder, tmp_path, precision, version):
    settings = Settings(profiles=((128, 256),), precision=precision)
    manifest = export_flashvsr(folder, tmp_path / "out", version=version, settings=settings, verify=True)
    assert read(tmp_path / "out") == manifest
    assert (manifest.version, manifest.weights, manifest.experimental) == (version, "trained", True)
    limit = 1e-5 if precision == "fp32" else 2e-2
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
