"""The TensorRT runtime, tested with a fake package that is limited to names which the real packages have."""

import gc
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import fake_tensorrt
import numpy as np
import pytest
from small_networks import frame

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.core.frame import Frame
from upres.engine.models import manifest
from upres.engine.models.padding import cut
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.models.tiling import TILE_LIMIT
from upres.engine.runtime import registry, trt
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostDevice, HostGraph

X2 = "realesr-animevideov3-x2"
WIDTH, HEIGHT = 40, 30


def test_the_fake_has_no_other_names():
    _, kinds = fake_tensorrt.module(HostDevice())
    for kind, names in fake_tensorrt.NAMES.items():
        known = {name for name in vars(kinds[kind]) if not name.startswith("_")}
        assert known <= {*names}, kind  # beside what its objects are given


class Instead(HostGraph):
    """ONNX Runtime's CUDA provider, computing on the host instead."""

    def __init__(self, path, precision, on, compute):
        super().__init__(OnnxRuntimeGraph(path, 1), on)
        self.compute = compute
        self.report = f"ONNX Runtime CUDA {precision}"


class Here:
    """This machine as one with a GPU, whose work the host executes in a random order."""

    def __init__(self, monkeypatch, cache, seed=0):
        self.device = HostDevice(seed)
        self.path, self.facts = manifest.find(X2)
        self.engines = cache / "engines"
        self.shape = (1, HEIGHT + 2 * self.facts.pad, WIDTH + 2 * self.facts.pad, 3)
        module, _ = fake_tensorrt.module(self.device)
        monkeypatch.setenv("UPRES_CACHE", str(cache))
        monkeypatch.setattr(trt.nvidia, "driver", lambda: fake_tensorrt.DRIVER)
        monkeypatch.setattr(trt.cuda, "CudaDevice", lambda: self.device)
        monkeypatch.setattr(trt.cuda, "unavailable", lambda: None)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr(trt.Cuda, "unavailable", lambda self: "no provider here")

        self._monkeypatch = monkeypatch

    def provide(self, graph):
        """Make ONNX Runtime's CUDA provider available too."""
        self._monkeypatch.setattr(trt.Cuda, "unavailable", lambda self: None)
        self._monkeypatch.setattr(trt, "CudaGraph", graph)

    def build(self, precision="fp16", wider=0, **faults):
        batch, height, width, channels = self.shape
        shape = batch, height, width + wider, channels
        return fake_tensorrt.build(self.engines, self.path, precision, shape, self.facts.scale, **faults)

    def model(self, precision="fp16"):
        return PerFrameModel(registry.choose("tensorrt").load(self.path, precision), self.facts)


@pytest.fixture
def here(monkeypatch, tmp_path):
    return Here(monkeypatch, tmp_path)


def upscaled(session, count=5, width=WIDTH):
    frames = [Frame(frame(width, HEIGHT, number), number, 1) for number in range(count)]
    results = [result for each in frames for result in session.push(each)] + list(session.flush())
    assert [result.pts for result in results] == list(range(count))
    return [result.pixels for result in results]


@pytest.mark.parametrize("seed", range(10))
def test_an_engine_runs_frames_in_their_order(monkeypatch, tmp_path, seed):
    here = Here(monkeypatch, tmp_path, seed)
    here.build()
    model = here.model()
    assert model.report == "TensorRT 10.14 fp16"
    session = model.open(WIDTH, HEIGHT)
    results = upscaled(session)
    session.close()
    expected = upscaled(PerFrameModel(OnnxRuntimeGraph(here.path, 1), here.facts).open(WIDTH, HEIGHT))
    for result, expected_frame in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, expected_frame)
    assert session.notes == []
    assert here.device.in_use == 0


def test_an_engine_that_is_not_there_is_named_with_the_command_that_builds_it(here):
    with pytest.raises(
        ModelError, match=f"upres export {X2} --target tensorrt --precision fp16 --size {WIDTH}x{HEIGHT}$"
    ):
        here.model().open(WIDTH, HEIGHT)
    assert here.device.in_use == 0


def test_where_memory_makes_tiles_smaller_the_command_builds_for_those(here):
    """An engine for frames of the source's size would have another input shape."""
    width, height = 400, 100
    model = here.model()
    model._tile_memory = width * height / 2 * model._tile_bytes
    tiles = model._plan(width, height)
    wide, tall = tiles.width - 2 * here.facts.pad, tiles.height - 2 * here.facts.pad
    with pytest.raises(ModelError, match=f"--size {wide}x{tall}$"):
        model.open(width, height)
    built = cut(here.facts, wide, tall, TILE_LIMIT, on_device=True)
    assert tiles.count > built.count == 1
    fake_tensorrt.build(here.engines, here.path, "fp16", (1, built.height, built.width, 3), here.facts.scale)
    session = model.open(width, height)
    assert len([*session.push(Frame(frame(width, height, 0), 0, 1)), *session.flush()]) == 1
    session.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [("refused", "cannot load .*build it with: upres export"), ("wrong", "does not compute what it was built for")],
)
def test_an_engine_that_cannot_be_used_is_refused_before_a_frame_leaves_it(here, fault, message):
    here.build(**{fault: True})
    for _ in range(2):
        with pytest.raises(ModelError, match=message):
            here.model().open(WIDTH, HEIGHT)
    assert here.device.in_use == 0


@pytest.mark.parametrize("wrong", [False, True])
def test_what_is_compiled_is_kept_once_the_first_run_was_right(here, monkeypatch, wrong):
    kept = []

    class Kept:
        was_loaded = False

        def __init__(self, engine, file):
            self.context, self.keep = engine.create_execution_context(), lambda: kept.append(file)

    monkeypatch.setattr(trt, "RuntimeCache", Kept)
    monkeypatch.setattr(trt.runtime_cache, "is_kept", lambda module: True)
    engine = here.build(wrong=wrong)
    with pytest.raises(ModelError, match="does not compute") if wrong else nullcontext():
        upscaled(here.model().open(WIDTH, HEIGHT))
    assert [file.name.split(".")[0] for file in kept] == ([] if wrong else [engine.stem])


class Compiled(trt.RuntimeCache):
    """A runtime cache whose contents affect the results: `bad` makes them wrong."""

    def __init__(self, engine, file):
        self._file, self._cache = file, SimpleNamespace(serialize=lambda: b"good")
        self._known = file.read_bytes() if file.exists() else b""
        self.was_loaded = bool(self._known)
        self.context = engine.create_execution_context()
        if self._known == b"bad":
            self.context.execute_async_v3 = lambda handle: True


def test_what_was_kept_and_computes_wrong_is_compiled_again(here, monkeypatch):
    monkeypatch.setattr(trt, "RuntimeCache", Compiled)
    monkeypatch.setattr(trt.runtime_cache, "is_kept", lambda module: True)
    here.build()
    upscaled(here.model().open(WIDTH, HEIGHT))
    [kept] = here.engines.glob("*.cache")
    kept.write_bytes(b"bad")
    expected = upscaled(PerFrameModel(OnnxRuntimeGraph(here.path, 1), here.facts).open(WIDTH, HEIGHT))
    for result, expected_frame in zip(upscaled(here.model().open(WIDTH, HEIGHT)), expected, strict=True):
        np.testing.assert_array_equal(result, expected_frame)
    assert kept.read_bytes() == b"good"


def test_an_engine_that_fails_to_run_is_an_error_and_leaves_nothing_taken(here):
    here.build(fails=True)
    with pytest.raises(ModelError, match="cannot run its engine"):
        here.model().open(WIDTH, HEIGHT)
    assert here.device.in_use == 0


def test_an_engine_that_there_is_no_memory_for_says_so(here):
    here.build(**{"no memory": True})
    here.provide(Instead)
    with pytest.raises(MemoryShortError, match="no memory left"):  # smaller tiles are tried first
        here.model().open(WIDTH, HEIGHT)


def test_engines_of_sizes_that_are_past_are_given_back_and_loaded_again_where_they_are_needed(here):
    model, sessions = here.model(), []
    for wider in range(0, 2 * trt.MOST_LOADED, 2):
        here.build(wider=wider)
        sessions.append(model.open(WIDTH + wider, HEIGHT))
        upscaled(sessions[-1], width=WIDTH + wider)
    here.build(wider=50)
    upscaled(model.open(WIDTH + 50, HEIGHT), width=WIDTH + 50)
    loaded = [each for each in gc.get_objects() if type(each).__name__ == "IExecutionContext"]
    assert len(loaded) == trt.MOST_LOADED
    expected = upscaled(PerFrameModel(OnnxRuntimeGraph(here.path, 1), here.facts).open(WIDTH, HEIGHT))
    for result, expected_frame in zip(upscaled(sessions[0]), expected, strict=True):
        np.testing.assert_array_equal(result, expected_frame)


def test_an_engine_whose_run_is_under_way_goes_once_that_is_done(here, monkeypatch):
    """The least recently used engine is evicted, possibly while its run is still in flight."""
    model, sessions = here.model(), {}
    for wider in range(0, 2 * trt.MOST_LOADED, 2):
        here.build(wider=wider)
        sessions[wider] = model.open(WIDTH + wider, HEIGHT)
    monkeypatch.setattr(HostDevice, "run_some", lambda device: None)  # no work is done spontaneously
    for wider, session in sessions.items():
        assert not list(session.push(Frame(frame(WIDTH + wider, HEIGHT, 0), 0, 1)))
    here.build(wider=50)
    model.open(WIDTH + 50, HEIGHT).close()
    for session in sessions.values():
        assert len(list(session.flush())) == 1
        session.close()
    assert here.device.in_use == 0


def test_where_there_is_no_engine_another_runtime_serves_and_says_so(here, monkeypatch):
    here.provide(Instead)
    session = here.model().open(WIDTH, HEIGHT)
    results = upscaled(session)
    session.close()
    assert len(results) == 5
    assert len(session.notes) == 1
    assert session.notes[0].startswith(
        "ONNX Runtime CUDA fp16 runs in place of TensorRT 10.14 fp16: there is no engine "
    )
    assert f"build it with: upres export {X2} --target tensorrt" in session.notes[0]
    assert here.device.in_use == 0


def test_without_a_driver_none_of_its_objects_is_made(here, monkeypatch):
    missing_driver = fake_tensorrt.Driver(None, None, (), "no driver (libcuda.so.1 is missing)", False)
    monkeypatch.setattr(trt.nvidia, "driver", lambda: missing_driver)
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # importing it raises an error
    with pytest.raises(ModelError, match="TensorRT needs an NVIDIA GPU and its driver: no driver"):
        registry.load("tensorrt").load(here.path, "fp16")


def test_what_is_not_installed_is_named_with_its_command(monkeypatch):
    for package in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, package, None)
    assert registry.load("tensorrt").unavailable() == (
        "tensorrt is not installed; get it with: pip install 'tensorrt-cu13>=10.14,<12'"
    )
    assert "upres[rtx]" in registry.load("tensorrt-rtx").unavailable()
