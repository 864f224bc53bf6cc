"""The GPU measurement runs on any machine at tiny sizes, part by part, and reports the parts that cannot run."""

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from paths import ROOT
from tables import X2

from upres.engine.machine import nvidia
from upres.engine.machine.video_engines import video_engines
from upres.engine.models.tuned import Choice

BENCH = ROOT / "bench" / "gpu.py"
PARTS = ["ready", "correct", "overlap", "speed", "end_to_end", "flashvsr", "rtx"]


def bench(*words):
    return subprocess.run([sys.executable, BENCH, *map(str, words)], capture_output=True, text=True, timeout=200)


@pytest.fixture
def parts(monkeypatch):
    """Return a function that imports modules of the benchmark."""
    monkeypatch.syspath_prepend(BENCH.parent)
    return importlib.import_module


def test_every_part_runs_on_the_host_and_leaves_its_result(tmp_path):
    out = tmp_path / "results.json"
    done = bench("--device", "host", "--out", out, *(word for part in PARTS for word in ("--only", part)))
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    sections = {name.removesuffix(", host"): part for name, part in document["results"].items()}
    assert list(sections) == PARTS and document["versions"]["onnxruntime"]
    assert not [name for name, part in sections.items() if "problem" in part], sections
    assert sections["ready"]["ready"] and set(sections["ready"]["missing"]) <= {"torch", "cuda-core", "tensorrt-rtx"}
    correct = sections["correct"]
    assert correct["right"] and len(correct["results"]) == 4 and correct["sanitizer"] == "no GPU"
    assert [each["misplaced"] for each in correct["results"].values() if "misplaced" in each] == [0, 0]
    overlapped = [each for name, each in sections["overlap"].items() if name != "card"]
    assert len(overlapped) == 2  # in RGB and in planes
    assert all(case["fps"] > 0 for case in sections["speed"]["results"].values())
    if problem := video_engines()[0].problem:
        assert {case["fps_with_nvenc"] for case in sections["end_to_end"]["results"].values()} == {problem}
    assert all(case["complete"] and case["bound_by"] for case in sections["end_to_end"]["results"].values())
    assert "needs a GPU" in sections["flashvsr"]["skipped"]
    if find_spec("tensorrt_rtx"):
        assert {engine["verdict"] for engine in sections["rtx"]["engines"].values()} <= {"accepted", "refused"}
    else:
        assert sections["rtx"]["skipped"] == "tensorrt_rtx is not installed"


def test_a_part_by_itself_adds_to_what_is_there_and_a_device_that_is_not_here_is_said(tmp_path, parts):
    out = tmp_path / "results.json"
    done = bench("--device", "host", "--only", "flashvsr", "--out", out)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(out.read_text())["results"]) == ["flashvsr, host"]
    output = parts("gpu_networks").nothing_runs("cuda")["skipped"]
    assert "no runtime runs on cuda here" in output and "onnxruntime: on the CPU" in output


def test_a_machine_that_lacks_something_is_found_out_at_once(tmp_path):
    if nvidia.driver().problem is None:
        pytest.skip("there is a GPU")
    done = bench("--out", tmp_path / "results.json")
    assert done.returncode == 0, done.stderr
    assert "this machine is not ready" in done.stdout and "correct" not in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert list(results) == ["ready, cuda"] and not results["ready, cuda"]["ready"]
    assert "no runtime runs on cuda here" in results["ready, cuda"]["skipped"]


def test_a_part_that_is_stopped_leaves_the_results_that_it_had(parts, monkeypatch):
    gpu = parts("gpu")

    def stopped(command, seconds):
        gpu.Options("host", kept=command[command.index("--kept") + 1]).keep({"results": {"one": 1}})
        return {"problem": f"no answer within {seconds} s"}

    monkeypatch.setattr(gpu, "answer", stopped)
    assert gpu._result("speed") == {"results": {"one": 1}, "problem": "no answer within 80 s"}
    monkeypatch.setattr(gpu, "answer", lambda command, seconds: {"problem": "none"})
    assert gpu._result("speed") == {"problem": "none"}


def test_the_sanitizer_finds_nothing_clean_where_nothing_runs():
    if nvidia.driver().problem is None:
        pytest.skip("there is a GPU")
    command = [sys.executable, BENCH.with_name("gpu_correct.py"), "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode and "nothing was checked" in done.stderr


def test_all_parts_together_take_less_than_ten_minutes(parts):
    assert sum(part.seconds for part in parts("gpu").PARTS.values()) < 600


def test_flashvsr_ends_before_its_part_is_killed_so_that_its_results_are_kept(parts):
    assert parts("gpu").PARTS["flashvsr"].seconds - 10 >= parts("gpu_engines").FLASHVSR_SECONDS


def test_frames_that_change_places_or_values_are_seen(parts, monkeypatch):
    gpu_correct, choice = parts("gpu_correct"), Choice("onnxruntime", "fp32")
    push = gpu_correct.upscale

    def swapped(model, pixels):
        results = push(model, pixels)
        if len(results) > 2:
            results[0], results[1] = results[1], results[0]
        return results

    assert gpu_correct._misplaced(X2, choice, 6) == 0
    monkeypatch.setattr(gpu_correct, "upscale", swapped)
    assert gpu_correct._misplaced(X2, choice, 6) == 2
    monkeypatch.setattr(gpu_correct, "upscale", lambda model, pixels: push(model, pixels)[1:])
    assert gpu_correct._misplaced(X2, choice, 6) >= 1
    monkeypatch.setattr(gpu_correct, "upscale", push)
    sample = parts("gpu_networks").frames(2, 16, 12)
    black = [np.zeros((24, 32, 3), np.uint8)] * 2
    assert gpu_correct._compare(X2, choice, sample, black, 2)["right"] is False


def test_pytorch_beside_x4plus_computes_the_same_network(parts, tmp_path):
    torch = pytest.importorskip("torch")
    gpu_x4plus = parts("gpu_x4plus")
    network, path = gpu_x4plus.TINY, tmp_path / "x4plus.onnx"
    tensors = gpu_x4plus._random(network)
    path.write_bytes(network.write(tensors, 4, "x4plus"))
    frame = parts("gpu_networks").frames(1, 24, 16)
    graph = parts("upres.engine.runtime.registry").choose("onnxruntime").load(path, "fp32")
    upscaled = graph.run({"frame": frame[0][None]})["upscaled"][0]
    weights = {name: torch.from_numpy(value) for name, value in tensors.items()}
    planes = torch.from_numpy(frame[0]).permute(2, 0, 1)[None].float()
    reference = gpu_x4plus._forward(network, weights, planes)[0].permute(1, 2, 0).numpy()
    assert np.abs(upscaled.astype(int) - reference).max() <= 1 and upscaled.std() > 1
    measured = gpu_x4plus.x4plus(parts("gpu").Options("host"))
    assert measured["ratio"] > 0 and measured["pytorch"] > 0
