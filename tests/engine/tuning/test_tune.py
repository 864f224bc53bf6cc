"""Every choice is tried in a separate process, compared and timed; failures are listed with their reasons."""

import numpy as np
import pytest
from marks import HAS_OPENVINO
from tables import X2

from upres.engine.core.errors import ModelError
from upres.engine.machine import device_memory
from upres.engine.models.tuned import Choice
from upres.engine.runtime import registry as runtimes
from upres.engine.runtime.openvino_cpu import has_bfloat16
from upres.engine.tuning import trial, tune
from upres.engine.tuning.picture import picture
from upres.engine.tuning.trial import REFERENCE, Trial


def test_a_choice_is_measured_in_a_process_of_its_own(tmp_path):
    tried = Trial(X2, REFERENCE, 48, 32, 0.05, str(tmp_path / "reference.npy"))
    row = trial.run(tried)
    assert row.choice == REFERENCE and row.report.endswith("CPU fp32")
    assert row.psnr is None and row.fps > 0 and row.latency > 0 and row.memory > 0 and not row.estimated
    assert np.load(tmp_path / "reference.npy").shape == (64, 96, 3)


def test_a_choice_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "LOAD_SECONDS", 0.01)
    with pytest.raises(ModelError, match="no answer within"):
        trial.run(Trial(X2, REFERENCE, 48, 32, 0.0, str(tmp_path / "reference.npy")))


def test_all_that_runs_here_is_measured_and_what_fails_is_named(monkeypatch):
    def here(tried):
        if tried.choice.precision == "bf16":
            raise ModelError("it broke")
        return trial.measure(tried)

    monkeypatch.setattr(trial, "run", here)
    reports = []
    table = tune.tune(X2, 40, 24, seconds=0.02, report=lambda *pair: reports.append(pair))
    assert {row.choice.runtime for row in table.rows} >= {"onnxruntime", *(["openvino"] if HAS_OPENVINO else [])}
    assert all(row.right for row in table.rows)
    assert [row.psnr for row in table.rows if row.choice == REFERENCE] == [None]
    assert list(table.failed.values()) == ["it broke"] * has_bfloat16()
    assert len(reports) == len(table.rows) + len(table.failed)


def test_choices_that_cut_the_frame_alike_are_tried_once():
    def tiles(width, height):
        candidates = tune.candidates(X2, width, height)
        return [choice.tile for choice in candidates if choice.runtime == "onnxruntime"]

    assert tiles(200, 100) == [1024]
    assert sorted(tiles(1280, 720)) == [256, 512, 1024, 2048]
    assert {choice.runtime for choice in tune.candidates(X2, 64, 64)} <= {each.name for each in runtimes.every()}


def test_of_a_frame_that_takes_long_a_part_is_timed(tmp_path):
    row = trial.measure(Trial(X2, REFERENCE, 4000, 3000, 0.05, str(tmp_path / "reference.npy")))
    assert row.estimated and row.choice == Choice("onnxruntime", "fp32", 1024)
    assert row.latency == pytest.approx(1 / row.fps, rel=3)


def test_the_picture_is_the_same_every_time_and_no_flat_one():
    first = picture(96, 64)
    assert first.shape == (64, 96, 3) and first.dtype == np.uint8
    assert np.array_equal(first, picture(96, 64)) and first.std() > 20
    assert picture(1, 1).shape == (1, 1, 3)


class Libcuda:
    """A fake driver that shares one context. fails: name of the call that returns an error."""

    def __init__(self, fails=""):
        self.fails, self.calls = fails, []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value = 5 << 30
            return 2 * (name == self.fails)

        return call


def test_free_memory_is_asked_in_the_shared_context_and_an_error_has_a_name():
    cuda = Libcuda()
    assert device_memory._free(cuda, 0) == 5 << 30
    assert cuda.calls.index("cuDevicePrimaryCtxRetain") < cuda.calls.index("cuMemGetInfo_v2") < len(cuda.calls) - 1
    with pytest.raises(ModelError, match="error 2"):
        device_memory._free(Libcuda("cuMemGetInfo_v2"), 0)
