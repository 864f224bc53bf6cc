"""The measurement of FlashVSR that is made for a GPU runs on any machine with a small configuration."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

BENCH = Path(__file__).parents[1] / "bench" / "flashvsr.py"


def bench(*words):
    return subprocess.run([sys.executable, BENCH, *map(str, words)], capture_output=True, text=True, timeout=240)


def test_every_runner_runs_on_a_cpu(tmp_path):
    words = ["--small", "--device", "cpu", "--backend", "aot_eager", "--steps", 1, "--out", tmp_path / "found.json"]
    done = bench(*words)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "found.json").read_text())["results"]
    assert [name.split(",")[0] for name in results] == ["eager", "compiled", "onnxruntime"]
    for found in results.values():
        assert "error" not in found, found
        assert found["frames_a_second"] == pytest.approx(8 / found["seconds"])
        assert found["parts"].keys() == {"projector", "transformer", "decoder"}
        floor, share = found["floor"]["computed"], found["share_of_floor"]["computed"]
        assert share == pytest.approx(floor / found["seconds"] / found["matrix_peak"])
        assert found["peak_memory"] > 0


def test_what_cannot_run_is_kept_with_its_reason_and_the_rest_runs(tmp_path):
    words = ["--small", "--device", "cpu", "--backend", "nothing", "--steps", 1, "--out", tmp_path / "found.json"]
    done = bench(*words, "--only", "compiled", "--only", "onnxruntime")
    assert done.returncode == 0, done.stderr
    compiled, graphs = json.loads((tmp_path / "found.json").read_text())["results"].values()
    assert "nothing" in compiled["error"]
    assert graphs["runs_on"].startswith("ONNX Runtime")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_here_is_said():
    assert "PyTorch sees no GPU here" in bench("--small", "--device", "cuda").stderr
