"""FlashVSR's weight files: original and repacked names, versions, missing files."""

import importlib
import os
from dataclasses import replace

import numpy as np
import pytest

from upres.engine.core.errors import ModelError

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402 - after the check for torch
from small_flashvsr import SMALL, WEIGHTS, as_torch, write_files  # noqa: E402

from upres.export.flashvsr.weights.files import read_folder  # noqa: E402


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return write_files(tmp_path / "FlashVSR-v1.1", monkeypatch)


def test_original_files_are_read_by_their_keys(folder):
    weights = read_folder(folder)
    assert weights.configuration == SMALL
    assert (weights.version, weights.origin) == ("v1.1", "trained")
    assert weights.prompt.shape == (1, 20, 24)
    for part in ("dit", "tc"):
        expected, read = getattr(WEIGHTS, part), getattr(weights, part)
        assert all((expected[key] == read[key]).all() for key in expected)
    assert np.abs(weights.lq["conv1.weight"] - WEIGHTS.lq["conv1.weight"]).max() < 2**-8


def test_repacked_names_and_prefixes_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("upres.export.flashvsr.weights.files.RELEASED", SMALL)
    save_file(as_torch(WEIGHTS.dit, prefix="model.diffusion_model."), tmp_path / "FlashVSR1_1.safetensors")
    save_file(as_torch(WEIGHTS.lq, prefix="lq."), tmp_path / "LQ_proj_in.safetensors")
    save_file(as_torch(WEIGHTS.tc), tmp_path / "TCDecoder.safetensors")
    save_file({"prompt": torch.from_numpy(WEIGHTS.prompt[0])}, tmp_path / "Prompt.safetensors")
    weights = read_folder(tmp_path)
    assert weights.version == "v1.1"
    assert weights.prompt.shape == (1, 20, 24)
    assert set(weights.lq) == set(WEIGHTS.lq)


def test_everything_that_is_missing_is_named_with_where_it_comes_from(folder):
    (folder / "posi_prompt.pth").unlink()
    (folder / "TCDecoder.ckpt").unlink()
    plain = folder.rename(folder.parent / "unnamed")
    with pytest.raises(ModelError) as error:
        read_folder(plain)
    for text in (
        "posi_prompt.pth is missing (from the git repository",
        "TCDecoder.ckpt is missing",
        "--weights-version",
    ):
        assert text in str(error.value)


def test_a_repack_without_its_last_layer_is_refused_with_every_tensor_it_lacks(folder, monkeypatch):
    monkeypatch.setattr("upres.export.flashvsr.weights.files.RELEASED", replace(SMALL, layers=2))
    with pytest.raises(ModelError, match=r"27 problems .*dit: blocks\.1\.cross_attn\.k\.bias is missing;"):
        read_folder(folder)


def test_a_truncated_file_is_named_with_the_size_it_should_have(folder, monkeypatch):
    monkeypatch.setattr("upres.export.flashvsr.weights.files.DIT_BYTES", 5_676_070_392)
    with pytest.raises(ModelError, match="expected 5676070392: download it again"):
        read_folder(folder)


def test_parameters_and_the_format_before_pytorch_1_6_are_read(folder):
    parameters = {key: torch.nn.Parameter(value) for key, value in as_torch(WEIGHTS.tc).items()}
    torch.save(parameters, folder / "TCDecoder.ckpt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Parameter(torch.from_numpy(WEIGHTS.prompt)), folder / "posi_prompt.pth")
    weights = read_folder(folder)
    assert (weights.prompt == WEIGHTS.prompt).all()
    assert all((weights.tc[key] == WEIGHTS.tc[key]).all() for key in WEIGHTS.tc)


@pytest.mark.parametrize(
    ("content", "words"),
    [({"epoch": 3}, "values that are not tensors: epoch"), ([1], "a list, expected tensors by name")],
)
def test_a_pickle_that_holds_other_data_is_refused_with_what_it_is(folder, content, words):
    torch.save({**as_torch(WEIGHTS.tc), **content} if isinstance(content, dict) else content, folder / "TCDecoder.ckpt")
    with pytest.raises(ModelError, match=rf"TCDecoder\.ckpt cannot be read as tensors: it contains {words}"):
        read_folder(folder)


def test_a_pickle_that_holds_more_than_tensors_is_refused(folder):
    torch.save({"call": os.system}, folder / "TCDecoder.ckpt")
    with pytest.raises(ModelError, match=r"TCDecoder\.ckpt cannot be read as tensors"):
        read_folder(folder)
