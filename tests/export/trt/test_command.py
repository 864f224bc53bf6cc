"""`upres export NETWORK --target tensorrt-rtx`: reproducible engines with manifests, built without a GPU."""

import importlib
import json
import os
from itertools import product

import numpy as np
import onnxruntime
import pytest
import typer
from small_networks import RRDB, tensors
from typer.testing import CliRunner

from upres.engine.core.errors import SettingsError
from upres.engine.models import manifest
from upres.engine.runtime.engines import first_run
from upres.engine.runtime.engines.manifest import first_run_file, read
from upres.engine.runtime.half import in_precision
from upres.export.cli.commands import export
from upres.export.trt.command import Request, build

if os.environ.get("CI"):
    importlib.import_module("tensorrt_rtx")
else:
    pytest.importorskip("tensorrt_rtx")

X4PLUS = RRDB(64, 32, 23, 4)
SHIPPED = ("realesr-animevideov3-x4", "realesr-animevideov3-x2")


@pytest.mark.parametrize(
    ("network", "precision", "size"),
    [
        *product(SHIPPED, ("fp32", "fp16"), ("32x24",)),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in product(SHIPPED, ("fp32", "fp16"), ("1280x720",))),
    ],
)
def test_a_network_builds_to_the_same_bytes_twice(tmp_path, network, precision, size):
    _builds_twice(tmp_path, network, precision, size)


@pytest.mark.soak
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_largest_architecture_builds_to_the_same_bytes_twice(tmp_path, monkeypatch, precision):
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path))
    _put(tmp_path / "models", X4PLUS, "wide")
    _builds_twice(tmp_path, "wide", precision, "64x48")


def test_what_is_wrong_with_the_options_is_said_at_once():
    with pytest.raises(SettingsError, match=r"in fp32 or fp16, not in bf16; --target needs --size WxH.* got 0x720"):
        list(build(Request("realesr-animevideov3-x2", "tensorrt-rtx", "bf16", "0x720")))


def test_the_command_that_rebuilds_can_be_pasted(tmp_path):
    request = Request("x2", "tensorrt", "fp16", "64x48", out=tmp_path / "my engines")
    assert (
        request.command
        == f"upres export x2 --target tensorrt --precision fp16 --size 64x48 --out '{tmp_path}/my engines'"
    )


def test_the_command_line_builds_them(tmp_path):
    command = [
        "export",
        "realesr-animevideov3-x2",
        "--target",
        "tensorrt-rtx",
        "--size",
        "16x16",
        "--out",
        str(tmp_path),
    ]
    app = typer.Typer()
    app.command()(export)
    result = CliRunner().invoke(app, command[1:])
    assert result.exit_code == 0, result.output
    (engine,) = tmp_path.glob("*.engine")
    assert str(engine) in result.output.replace("\n", "")
    assert read(engine).command == "upres " + " ".join([*command[:4], "--precision", "fp32", *command[4:]])


def _builds_twice(tmp_path, network, precision, size):
    engines, again = (
        list(build(Request(network, "tensorrt-rtx", precision, size, out=tmp_path / out))) for out in ("one", "two")
    )
    assert [engine.sha256 for engine in engines] == [engine.sha256 for engine in again]
    for engine in engines:
        known = read(engine.path)
        assert (known.sha256, known.nbytes) == (engine.sha256, engine.path.stat().st_size)
        assert known.contents.precision == precision
        assert f"--size {size}" in known.command
        with np.load(first_run_file(engine.path)) as stored:
            assert 0 < stored["upscaled"].size <= first_run.VALUES
            assert stored["upscaled"].std() > 1
        _first_run_passes(engine.path, known, network)


def _first_run_passes(engine, known, network):
    """Check an engine's first run with the graph in the engine's precision, on a CPU."""
    graph = in_precision(manifest.find(network)[0], known.contents.precision)
    session = onnxruntime.InferenceSession(graph)
    inputs = first_run.fixed_inputs({"frame": (known.contents.inputs["frame"], np.dtype(np.uint8))})
    first_run.compare(engine, known, inputs, lambda feeds: {"upscaled": session.run(None, dict(feeds))[0]})


def _put(folder, network, name):
    """Write a network with random weights to the folder of exported networks."""
    graph = network.write(tensors(network), network.scale, name)
    folder.mkdir()
    (folder / f"{name}.onnx").write_bytes(graph)
    facts = json.loads(manifest.find(SHIPPED[0])[0].with_suffix(".json").read_text())
    digest = manifest.hashlib.sha256(graph).hexdigest()
    facts |= {
        "network": name,
        "slug": name,
        "scale": 4,
        "pad": 0,
        "halo": 32,
        "exact_halo": False,
        "graph_sha256": digest,
    }
    (folder / f"{name}.json").write_text(json.dumps(facts))
