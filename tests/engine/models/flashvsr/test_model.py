"""Loading of an export of FlashVSR: what it reports, and what is refused."""

import importlib
import os
import shutil
from dataclasses import replace

import onnxruntime
import pytest

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.models.flashvsr import manifest
from upres.engine.models.flashvsr.model import FlashVSR, Options

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402 - after the check for torch
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402

TILE = ((128, 128),)


def test_a_gpu_is_asked_how_fast_it_is_and_takes_the_export_of_16_bits(folder, monkeypatch, tmp_path):
    model = FlashVSR(folder, scale=2)
    model._options = replace(model._options, device="cuda")  # the graphs stay on the CPU
    assert 0 < model.seconds(64, 64) < model.seconds(640, 640)
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path))
    network = model.manifest.network
    for precision in ("fp32", "fp16"):
        manifest.folder_of(network, precision).mkdir(parents=True)
        (manifest.folder_of(network, precision) / manifest.FILE).touch()
    assert manifest.find(network).name == "fp32"
    assert manifest.find(network, half=True).name == "fp16"


def test_other_scales_are_refused(folder):
    with pytest.raises(SettingsError, match="2, 3, 4 times, not 5 times"):
        FlashVSR(folder, scale=5)


def test_bfloat16_on_a_cpu_is_refused_before_anything_is_loaded(weights, tmp_path):
    write_graphs(weights, tmp_path, Settings(TILE, "bf16"))
    with pytest.raises(ModelError, match="is in bf16, which ONNX Runtime does not compute on a CPU; export it in fp32"):
        FlashVSR(tmp_path)


def test_the_report_names_the_precision_that_runs(weights, folder, tmp_path):
    write_graphs(weights, tmp_path, Settings(TILE, "fp16"))
    reports = FlashVSR(folder).report, FlashVSR(tmp_path, scale=2).report
    assert reports[0].endswith(" CPU, 4x, exact attention in fp32, experimental")
    assert reports[1].endswith(" CPU, 2x, exact attention in fp16, experimental")


def test_random_weights_are_refused_outside_tests(folder, monkeypatch):
    monkeypatch.delenv("UPRES_RANDOM_WEIGHTS")
    with pytest.raises(ModelError, match="never trained"):
        FlashVSR(folder)


def test_what_is_not_there_is_named_with_the_command_that_gets_it(tmp_path):
    with pytest.raises(ModelError, match="upres export FlashVSR_Tiny --weights DIR"):
        FlashVSR(tmp_path)


def test_a_damaged_export_is_refused_with_all_that_is_wrong(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "next-128x128.onnx").unlink()
    (tmp_path / "copy" / "decoder.onnx").write_bytes(b"")
    (tmp_path / "copy" / "flashvsr-fp32.weights").write_bytes(b"short")
    with pytest.raises(ModelError) as error:
        FlashVSR(tmp_path / "copy")
    for text in (
        "next-128x128.onnx is missing",
        "decoder.onnx is not the one",
        "has 5 bytes, expected",
        "export it again",
    ):
        assert text in str(error.value)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="a GPU is here")
def test_a_device_that_is_not_here_is_named(folder):
    with pytest.raises(ModelError, match=r"no CUDAExecutionProvider, only .*CPUExecutionProvider"):
        FlashVSR(folder, options=Options(device="cuda"))
