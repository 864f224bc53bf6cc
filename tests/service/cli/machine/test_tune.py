"""`upres tune` and `upres selftest` through the command line; trials run in this process, which is faster."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from paths import SAMPLE
from PIL import Image
from tables import X2, keep, row
from typer.testing import CliRunner

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.machine.nvidia import Driver
from upres.engine.models import tuned
from upres.engine.pipeline.resumable import resumed_models
from upres.engine.runtime import registry as runtimes
from upres.engine.segments.folder import FolderLog
from upres.engine.tuning import trial
from upres.export.trt import warm
from upres.export.trt.engine import Engine
from upres.service.cli import app
from upres.service.cli.machine import selftest


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(trial, "run", trial.measure)
    monkeypatch.setattr(selftest, "video_engines", lambda: ())
    monkeypatch.setattr(selftest.nvidia, "driver", lambda: Driver(None, None, (), "no driver", on_bus=False))


def upres(*arguments):
    return CliRunner().invoke(app.build(), [str(each) for each in arguments])


def test_tune_keeps_a_table_that_auto_then_takes():
    done = upres("tune", "--size", "40x24", "--model", "RealESRGAN_Vid_x2", "--seconds", "0.1", "--json")
    assert done.exit_code == 0, done.output
    shown, table = json.loads(done.stdout), tuned.fresh(X2)
    assert (table.width, table.height) == (40, 24) == (shown["width"], shown["height"])
    assert shown["machine"]["cpus"] and shown["versions"]["onnxruntime"] and shown["when"]
    assert len(shown["rows"]) == len(table.rows) >= 2
    assert tuned.pick(X2, "exact", frame=(40, 24))[0] == table.best("exact").choice


@pytest.mark.parametrize("size", ["720", "0x5", "5x", "99999x10", "-1x3"])
def test_what_is_no_size_is_refused(size):
    done = upres("tune", "--size", size)
    assert isinstance(done.exception, SettingsError) and "such as 1280x720" in str(done.exception)


def test_flashvsr_has_nothing_to_tune():
    done = upres("tune", "--size", "64x64", "--model", "FlashVSR_Tiny")
    assert isinstance(done.exception, ModelError) and "nothing to choose" in str(done.exception)


def test_resume_takes_what_the_log_names_although_the_table_has_changed(tmp_path):
    keep(row("openvino", "bf16", fps=9, psnr=52.7, report="OpenVINO 0"), row(fps=1, tile=512, report="slow"))
    target = tmp_path / "out.mp4"
    FolderLog(tmp_path / "out.mp4.upres", {"models": [f"{X2} on slow"]}).close()
    assert resumed_models(target) == resumed_models(tmp_path) == (f"{X2} on slow",)
    assert resumed_models(tmp_path / "other.mp4") == ()
    done = upres("run", SAMPLE, target, "--model", "RealESRGAN_Vid_x2", "--resume")
    assert "runtime auto is onnxruntime, as in the run that is resumed" in done.output


def test_selftest_without_a_gpu_tests_the_cpu_says_so_and_writes_one_file(tmp_path):
    out = tmp_path / "found.json"
    done = upres("selftest", "--device", "--size", "40x24", "--seconds", "0.1", "--out", out)
    assert done.exit_code == 0, done.output
    assert "no GPU to test (no driver); testing the CPU's runtimes" in done.output
    assert all(f"{network}, frames of 40x24:\n" in done.output for network in selftest.NETWORKS)
    report = json.loads(out.read_text())
    assert report["driver"]["gpus"] == [] and report["doctor"] and report["wrong"] == []
    assert [result["network"] for result in report["results"]] == list(selftest.NETWORKS)
    assert all(len(result["rows"]) >= 2 for result in report["results"])


def test_selftest_builds_the_engines_of_every_runtime_that_needs_them(tmp_path, monkeypatch):
    built = []

    def build(network, target, quality, width, height):
        built.append((network, target, quality, width, height))
        if quality == "exact":
            raise ModelError("TensorRT for RTX does not support this GPU")
        yield Engine("x2", tmp_path / "one.engine", 2_000_000, "", 3.0)

    def run(command, **options):
        assert command[:3] == [sys.executable, "-m", "upres"]
        done = upres(*command[3:])
        return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=str(done.exception or ""))

    rtx = SimpleNamespace(name="tensorrt-rtx", unavailable=lambda: None, precisions=tuple)
    missing = SimpleNamespace(name="tensorrt", unavailable=lambda: "not installed", precisions=tuple)
    every = [runtimes.load("onnxruntime"), rtx, missing]
    monkeypatch.setattr(selftest.runtimes, "every", lambda: every)
    monkeypatch.setattr(warm, "warm", build)
    monkeypatch.setattr(selftest.subprocess, "run", run)
    out = tmp_path / "found.json"
    done = upres("selftest", "--device", "--size", "40x24", "--seconds", "0.1", "--out", out)
    qualities = ("high", "exact")
    assert built == [(network, "tensorrt-rtx", each, 40, 24) for network in selftest.NETWORKS for each in qualities]
    assert done.exit_code == 1 and done.output.count("one.engine (2.0 MB, 3.0 s)") == 2
    wrong = json.loads(out.read_text())["wrong"]
    assert len(wrong) == 2 and all(
        "--quality exact: TensorRT for RTX does not support this GPU" in each for each in wrong
    )


def test_selftest_of_a_device_that_computes_wrong_or_not_at_all_fails(tmp_path, monkeypatch):
    def wrong(tried):
        result = row(tried.choice.runtime, tried.choice.precision)
        if tried.choice.runtime == "openvino":
            raise ModelError("it does not start")
        return replace(result, psnr=31.0)

    monkeypatch.setattr(trial, "run", wrong)
    out = tmp_path / "found.json"
    done = upres("selftest", "--device", "--out", out)
    assert done.exit_code == 1
    output = " ".join(json.loads(out.read_text())["wrong"])
    assert "31.0 dB is too low" in output and "it does not start" in output


def test_selftest_asks_what_to_test():
    assert isinstance(upres("selftest").exception, SettingsError)


def test_tune_says_for_which_sizes_it_decides(monkeypatch):
    monkeypatch.setattr(
        trial, "run", lambda tried: row(tried.choice.runtime, tried.choice.precision, tried.choice.tile)
    )
    words = "tune", "--model", "RealESRGAN_Vid_x2", "--size"
    small, large = upres(*words, "64x64").output, upres(*words, "640x360").output
    assert "frames from 32x32 to 128x128 in area, but not for servers, live sources" in small
    assert "measure at least 320x180" in small
    assert "frames from 320x180 to 1280x720 in area, and for servers, live sources" in large


def test_a_table_of_another_size_decides_nothing_for_a_clip(tmp_path):
    keep(row(tile=512, fps=9), size=(16, 16))
    done = upres("run", SAMPLE, tmp_path / "out.mp4", "--model", "RealESRGAN_Vid_x2", "--quality", "exact", "--dry-run")
    assert done.exit_code == 0 and "runtime auto is" not in done.output
    keep(row(tile=512, fps=9), size=(320, 180))
    done = upres("run", SAMPLE, tmp_path / "out.mp4", "--model", "RealESRGAN_Vid_x2", "--quality", "exact", "--dry-run")
    assert "runtime auto is onnxruntime" in done.output


def test_of_several_inputs_each_is_decided_by_its_size_and_notes_are_shown_once(tmp_path):
    small = tmp_path / "small.png"
    Image.new("RGB", (40, 24)).save(small)
    keep(row(tile=512, fps=9), size=(320, 180))
    words = small, SAMPLE, small, tmp_path / "out", "--model", "RealESRGAN_Vid_x2", "--quality", "exact", "--dry-run"
    lines = upres("run", *words).output.splitlines()
    assert [line for line in lines if "tiles up to 512)" in line] == [
        line for line in lines if line.startswith("2 of 3")
    ]
    assert sum("runtime auto is" in line for line in lines) == 1
