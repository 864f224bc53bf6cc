"""Measurements of `upres tune` decide what `runtime` auto selects, on the same machine and with the same versions."""

import json
from pathlib import Path

import pytest
from marks import needs_openvino
from tables import EXACT, X2, keep, row

from upres.engine.core.errors import TargetError
from upres.engine.models import registry, tuned
from upres.engine.models.per_frame import load
from upres.engine.models.planar import COLORS_TOO
from upres.engine.runtime import ncnn_vulkan
from upres.engine.runtime import registry as runtimes


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@needs_openvino
def test_auto_is_the_fastest_that_reaches_the_quality_and_says_why():
    keep(
        row(tile=512, fps=3),
        row("openvino", "bf16", 1024, fps=9, psnr=52.7),
        row("openvino", "fp32", 256, fps=8, psnr=20.0),  # float32 in name only
        row("openvino", "int8", 1024, fps=20, psnr=55.0),  # only sufficient for `fast`
    )
    exact, high = load(X2, quality="exact"), load(X2)
    assert exact.report.startswith("ONNX Runtime") and exact.report.endswith("CPU fp32, tiles up to 512")
    assert "runtime auto is onnxruntime in fp32, tiles up to 512: the fastest of 4" in exact.why
    assert high.report.startswith("OpenVINO") and "runtime auto is openvino in bf16" in high.why
    assert load(X2, runtime="onnxruntime").why is None  # an explicit name needs no reason


def test_tiles_of_another_size_are_another_report_and_so_another_run():
    keep(row(tile=256, fps=3))
    assert load(X2).report != load(X2, runtime="onnxruntime").report


@needs_openvino
def test_without_a_table_auto_is_the_preferred_runtime():
    assert load(X2).why is None and load(X2).report.startswith("OpenVINO")


@pytest.mark.parametrize(
    "change",
    [
        {"versions": {"onnxruntime": "0.1"}},
        {"machine": {"cpu": "another"}},
        {"format": tuned.FORMAT + 1},
        {"rows": [{"fps": 1}]},
        {"rows": 3},
    ],
    ids=str,
)
def test_a_table_of_another_machine_or_version_or_a_damaged_one_is_ignored(change):
    path = keep(row(fps=3))
    assert tuned.fresh(X2) is not None
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert tuned.fresh(X2) is None and tuned.pick(X2, "exact") is None
    path.write_text("{")
    assert tuned.fresh(X2) is None


@pytest.mark.parametrize(
    "now",
    [{"drivers": ["Radeon, 2, ab"]}, {"drivers": ["Arc, 1, ab"]}, {"drivers": []}, {"problem": "it crashed"}],
    ids=json.dumps,
)
def test_rows_of_vulkan_hold_for_its_gpus_and_their_drivers(monkeypatch, now):
    monkeypatch.setattr(ncnn_vulkan, "query", lambda: {"devices": {"Radeon": 0}, "drivers": ["Radeon, 1, ab"]})
    keep(row("ncnn-vulkan", fps=99), row(fps=3))
    assert [each.choice.runtime for each in tuned.fresh(X2).rows] == ["ncnn-vulkan", "onnxruntime"]
    monkeypatch.setattr(ncnn_vulkan, "query", lambda: now)
    assert [each.choice.runtime for each in tuned.fresh(X2).rows] == ["onnxruntime"]


def test_vulkan_is_not_asked_for_a_table_without_it(monkeypatch):
    monkeypatch.setattr(ncnn_vulkan, "query", lambda: pytest.fail("a driver may take a second to wake"))
    keep(row(fps=3))
    assert len(tuned.fresh(X2).rows) == 1


def test_a_runtime_that_is_gone_is_not_taken():
    keep(row("gone", fps=99), row(tile=512, fps=1))
    assert load(X2).report.endswith("tiles up to 512")
    keep(row("gone", fps=99))
    assert load(X2).why is None


def test_only_runtimes_in_the_table_are_asked_whether_they_can_run(monkeypatch):
    keep(row("gone", fps=99), row(fps=3))
    loaded, load_runtime = [], runtimes.load
    monkeypatch.setattr(runtimes, "load", lambda name: loaded.append(name) or load_runtime(name))
    assert tuned.pick(X2, "exact")[0].runtime == "onnxruntime"
    assert loaded == ["onnxruntime"]  # querying one with a driver may take a second


def test_a_table_is_written_whole_or_not_at_all(monkeypatch):
    path = keep(row(fps=3))
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(TargetError, match="No space"):
        keep(row(fps=4))
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@needs_openvino
def test_a_run_that_is_resumed_stays_on_what_it_ran_on():
    keep(row("openvino", "bf16", fps=9, psnr=52.7, report="OpenVINO"), row(fps=1))
    model, _ = registry.load("RealESRGAN_Vid_x2", resumed=(f"{X2} on {EXACT}",))
    assert model.report.startswith("ONNX Runtime") and "as in the run that is resumed" in model.why
    planes = f"{X2} on {EXACT}{COLORS_TOO}"
    assert registry.load("RealESRGAN_Vid_x2", resumed=(planes,))[0].report == model.report
    model, _ = registry.load("RealESRGAN_Vid_x2", resumed=(f"{X2} on something else",))
    assert model.report.startswith("OpenVINO")


@pytest.mark.parametrize(
    ("size", "frame", "decides"),
    [
        ((640, 360), (640, 360), True),
        ((640, 360), (1280, 720), True),
        ((640, 360), (320, 180), True),
        ((640, 360), (1282, 720), False),
        ((640, 360), (318, 180), False),
        ((640, 360), None, True),
        ((64, 64), (64, 64), True),
        ((64, 64), (1280, 720), False),
        ((64, 64), None, False),  # its frames say nothing about those of a server or a live source
    ],
)
def test_a_table_decides_only_for_frames_of_a_similar_size(size, frame, decides):
    keep(row(tile=512, fps=3), size=size)
    assert tuned.decides(X2, frame) is decides
    model, _ = registry.load("RealESRGAN_Vid_x2", quality="exact", frame=frame)
    assert model.report.endswith("tiles up to 512") is decides
    assert registry.is_tuned("x2", "auto", None, frame) is decides


def test_a_resumed_run_stays_on_what_it_ran_on_at_any_size():
    keep(row(tile=512, fps=3), size=(64, 64))
    picked = tuned.pick(X2, "exact", resumed=(f"{X2} on {EXACT}",), frame=(1920, 1080))
    assert picked is not None and picked[0].tile == 512
