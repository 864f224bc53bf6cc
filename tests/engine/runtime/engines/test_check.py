"""Checks before an engine's first frame: stale, foreign, damaged and wrong engines, each with its message."""

import dataclasses
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from upres.engine.core.errors import ModelError
from upres.engine.machine.nvidia import GPU, Driver
from upres.engine.runtime.engines import first_run
from upres.engine.runtime.engines.check import capability_of, check, check_validity
from upres.engine.runtime.engines.manifest import Builder, Contents, EngineManifest, first_run_file, manifest_path, read

CONTENTS = Contents("graph", "", "fp16", {"frame": (1, 8, 6, 3)})
BUILDER = Builder("tensorrt", "11.4.0", "SM90")
DRIVER = Driver("580.65", "13.0", (GPU(0, "NVIDIA H100", (9, 0), 80 << 30),), None, True)
COMMAND = "upres export x2 --target tensorrt --precision fp16 --size 6x8"
INPUTS = first_run.fixed_inputs({"frame": ((1, 8, 6, 3), np.dtype(np.uint8)), "state": ((2, 3), np.dtype(np.float16))})


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "x2.engine"
    path.write_bytes(bytes(range(256)))
    first_run.write(path, _twice(INPUTS))
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, first_run_file(path))]
    EngineManifest(CONTENTS, BUILDER, digests[0], 256, digests[1], COMMAND).write(path)
    return path


def test_an_engine_that_fits_is_read(engine):
    blob, known = check(engine, CONTENTS, BUILDER, DRIVER, command=COMMAND)
    assert blob == engine.read_bytes()
    assert known == read(engine)
    assert capability_of(DRIVER.gpus[0]) == "SM90"


@pytest.mark.parametrize(
    ("contents", "builder", "message"),
    [
        ({"graph_sha256": "other"}, {}, "it is stale: the network's graph has changed"),
        ({"weights_sha256": "other"}, {}, "it is stale: the network's graph has changed"),
        ({"precision": "fp32"}, {}, "it computes in fp16, not in fp32"),
        ({"inputs": {"frame": (1, 9, 6, 3)}}, {}, "its inputs are frame 1x8x6x3, not frame 1x9x6x3"),
        ({}, {"target": "tensorrt-rtx"}, "built by tensorrt 11.4.0, and this machine has tensorrt-rtx 11.4.0"),
        ({}, {"version": "10.14"}, "built by tensorrt 11.4.0, and this machine has tensorrt 10.14"),
        ({}, {"capability": "SM89"}, "built for GPUs of SM90, and this one is SM89"),
        ({"precision": "fp32"}, {"capability": "SM89"}, "it computes in .*; it was built for"),
    ],
)
def test_a_stale_or_foreign_engine_is_refused(engine, contents, builder, message):
    expected, builder_here = dataclasses.replace(CONTENTS, **contents), dataclasses.replace(BUILDER, **builder)
    with pytest.raises(ModelError, match=f"cannot be used: .*{message}.*; build it with: {COMMAND}$"):
        check(engine, expected, builder_here, DRIVER, command=COMMAND)


def _truncate(engine):
    engine.write_bytes(engine.read_bytes()[:100])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _forget(engine):
    values = json.loads(manifest_path(engine).read_text())
    del values["builder"]["version"]
    manifest_path(engine).write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "is truncated: it has 100 bytes of 256"),
        (_flip, "x2.engine is damaged: its sha256 is not that of its manifest"),
        (lambda engine: _flip(first_run_file(engine)), "x2.npz, which the engine's first run .* missing or damaged"),
        (lambda engine: first_run_file(engine).unlink(), "x2.npz, which the engine's first run .* missing or damaged"),
        (_forget, "x2.json is not a readable engine manifest .'version'"),
        (lambda engine: manifest_path(engine).write_text("[]"), "x2.json is not a readable engine manifest"),
        (lambda engine: manifest_path(engine).unlink(), "there is no engine"),
        (lambda engine: engine.unlink(), "there is no engine"),
    ],
)
def test_a_damaged_or_missing_engine_is_refused(engine, damage, message):
    damage(engine)
    with pytest.raises(ModelError, match=f"{message}.*{COMMAND}$"):
        check(engine, CONTENTS, BUILDER, DRIVER, command=COMMAND)


def test_without_a_driver_nothing_is_read(engine):
    engine.unlink()
    absent = Driver(None, None, (), "no NVIDIA driver is loaded", False)
    with pytest.raises(
        ModelError, match=f"no NVIDIA driver is loaded; when both are available, build it with: {COMMAND}"
    ):
        check(engine, CONTENTS, BUILDER, absent, command=COMMAND)


def test_what_tensorrt_for_rtx_refuses_is_not_loaded(engine):
    module = SimpleNamespace(__version__="1.7", EngineValidity=SimpleNamespace(INVALID=2))
    for answer in (0, 1):
        runtime = SimpleNamespace(get_engine_validity=lambda blob, answer=answer: (answer, 0))
        check_validity(module, runtime, b"", engine=engine, command=COMMAND)
    check_validity(module, SimpleNamespace(), b"", engine=engine, command=COMMAND)  # TensorRT itself has no such call
    runtime = SimpleNamespace(get_engine_validity=lambda blob: (2, 32))
    with pytest.raises(ModelError, match=rf"RTX 1.7 rejects .*\(diagnostics 32\); build it with: {COMMAND}"):
        check_validity(module, runtime, b"", engine=engine, command=COMMAND)


def test_the_first_run_must_give_what_was_stored(engine):
    first_run.compare(engine, read(engine), INPUTS, _twice)
    # One level in a few values is rounding.
    first_run.compare(engine, read(engine), INPUTS, lambda inputs: _changed(inputs, "frame", 1))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda inputs: _changed(inputs, "frame", 90), r"frame is \d\d.\d dB from it, at least 58 expected"),
        (lambda inputs: _changed(inputs, "state", 1), "state differs by 0.*, at most 0.01 expected"),
        (lambda inputs: _changed(inputs, "state", np.nan), "state has values that are not finite"),
        (lambda inputs: {"frame": _twice(inputs)["frame"]}, "state is missing or of another size"),
        (lambda inputs: _changed(_changed(inputs, "frame", 90), "state", 1), "frame is .*; state differs"),
    ],
)
def test_an_engine_that_computes_something_else_is_refused(engine, run, message):
    with pytest.raises(
        ModelError, match=f"does not compute what it was built for on this machine: .*{message}.*{COMMAND}"
    ):
        first_run.compare(engine, read(engine), INPUTS, run)


def _twice(inputs):
    return {name: value + value // 2 if value.dtype == np.uint8 else value * 2 for name, value in inputs.items()}


def _changed(inputs, name, by):
    outputs = _twice(inputs)
    outputs[name] = outputs[name].copy()
    outputs[name].flat[0] += by
    return outputs
