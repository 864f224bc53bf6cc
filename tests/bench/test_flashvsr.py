"""The GPU measurement of FlashVSR runs on any machine with a small configuration."""

import importlib
import json
import os
import subprocess
import sys
import weakref

import pytest
from paths import ROOT

from upres.engine.core.errors import ModelError

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

BENCH = ROOT / "bench" / "flashvsr.py"


def bench(*words):
    return subprocess.run([sys.executable, BENCH, *map(str, words)], capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("backend", ["nothing", pytest.param("aot_eager", marks=pytest.mark.soak)])
def test_runners_run_on_a_cpu_and_one_that_cannot_is_kept_with_its_reason(tmp_path, backend):
    words = ["--small", "--device", "cpu", "--backend", backend, "--steps", 1, "--out", tmp_path / "results.json"]
    runners = ["eager", "compiled", "onnxruntime"]
    done = bench(*words, *(word for runner in runners for word in ("--only", runner)))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [name.split(",")[0] for name in results] == runners
    for runner, result in zip(runners, results.values(), strict=True):
        if (runner, backend) == ("compiled", "nothing"):
            assert "nothing" in result["error"]
            continue
        assert "error" not in result, result
        assert result["frames_a_second"] == pytest.approx(8 / result["seconds"])
        assert result["parts"].keys() >= {"projector", "transformer", "decoder"}
        floor, share = result["floor"]["computed"], result["share_of_floor"]["computed"]
        assert share == pytest.approx(floor / result["seconds"] / result["matrix_peak"])
        assert result["peak_memory"] > 0
    assert result["parts"].keys() >= {"bicubic upscale", "colors"}  # the engine's work outside the networks
    assert result["runs_on"].startswith("ONNX Runtime")


def test_what_ran_before_does_not_count(monkeypatch):
    monkeypatch.syspath_prepend(BENCH.parent)
    measured = importlib.import_module("flashvsr")

    class Compiled:
        def __init__(self):
            self.run = self.__init__

    before = weakref.ref(Compiled())
    assert before() is not None
    with measured.memory("cpu", {}):
        assert before() is None


def test_an_export_of_another_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCH.parent)
    measured = importlib.import_module("flashvsr")
    measured.prepare(measured.CASES["small"], tmp_path, "fp32")
    for case, precision in (("full", "fp32"), ("small", "fp16")):
        with pytest.raises(ModelError, match=r"holds 2 layers of 256 in fp32, expected .*; name another folder"):
            measured.prepare(measured.CASES[case], tmp_path, precision)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_here_is_said():
    assert "PyTorch sees no GPU here" in bench("--small", "--device", "cuda").stderr
