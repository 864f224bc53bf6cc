"""Quantization of a graph to int8: the same network, reproducible bytes, and its results on runtimes."""

import importlib
import json
import os
import shutil

import numpy as np
import pytest
from paths import SAMPLE
from reference_frames import run_graph
from small_networks import SRVGG, frame, tensors
from typer.testing import CliRunner

from upres.engine.core.errors import ModelError
from upres.engine.models import manifest
from upres.engine.runtime import registry as runtimes

pytest.importorskip("torch") if not os.environ.get("CI") else importlib.import_module("torch")

import torch  # noqa: E402

from upres.export.cli.checks import app  # noqa: E402
from upres.export.distill import sources, video  # noqa: E402
from upres.export.distill.sources import Media  # noqa: E402
from upres.export.quantize import run, samples  # noqa: E402
from upres.export.quantize.chain import read, tensor  # noqa: E402
from upres.export.quantize.rounding import balance, compensate  # noqa: E402

NAME = "realesr-live-x2"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Create a folder with a single clip, and configure small crops."""
    media = tmp_path / "work" / "media"
    media.mkdir(parents=True)
    for name in ("clip.mp4", "other.mp4"):
        shutil.copy(SAMPLE, media / name)
    monkeypatch.setattr(sources, "TRAINING", (Media("none", "clip.mp4"), Media("none", "other.mp4")))
    monkeypatch.setattr(sources, "HELD_OUT", ())
    monkeypatch.setattr(samples, "CLIP", "clip.mp4")
    monkeypatch.setattr(samples, "SCENES", (0.0, 1.0))
    monkeypatch.setattr(samples, "OTHER_SCENES", (2.0, 2.5))
    monkeypatch.setattr(samples, "SEARCHED", ("other.mp4",))
    monkeypatch.setattr(samples, "SIDE", 48)
    monkeypatch.setattr(run, "MARGIN", -10.0)  # such a small network loses more precision
    return media.parent


def test_a_network_in_int8_is_near_itself_and_the_same_bytes_again(work, tmp_path):
    graphs, results = [], tmp_path / "results.json"
    for out in (tmp_path / "a", tmp_path / "b"):
        result = CliRunner().invoke(app, ["quantize", NAME, str(work), str(out), "--results", str(results)])
        assert result.exit_code == 0, result.output
        graphs.append((out / f"{NAME}.int8.onnx").read_bytes())
    assert graphs[0] == graphs[1]
    facts = manifest.read(tmp_path / "a" / f"{NAME}.json")
    (variant,) = facts.variants
    manifest.check(tmp_path / "a" / variant.file, variant)
    tried = json.loads(results.read_text())["results"][NAME]["tried"]
    assert variant.psnr == min(tried[0]["psnr"].values()) and len(tried) == len(run.ENDS)
    frame = np.ascontiguousarray(video.frames(SAMPLE, start=1.5)[0][None, :96, :128])
    exact = runtimes.load("onnxruntime").load(manifest.find(NAME)[0], "fp32").run({"frame": frame})["upscaled"]
    for name, precision in (("openvino", "int8"), ("onnxruntime", "fp32")):
        upscaled = runtimes.load(name).load(tmp_path / "a" / variant.file, precision).run({"frame": frame})["upscaled"]
        error = np.mean((upscaled.astype(float) - exact) ** 2)
        assert 10 * np.log10(255**2 / error) > variant.psnr - 3


def test_a_network_that_is_not_near_enough_is_not_written(work, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "MARGIN", 60.0)
    with pytest.raises(ModelError, match=r"in int8 is \d+\.\d dB from float32 at best"):
        run.quantize(NAME, work, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scales_that_move_between_layers_change_nothing_and_compensation_helps(work):
    crops = tensor(samples.calibration(work / "media", 1))
    before, chain = read(manifest.find(NAME)[0]), read(manifest.find(NAME)[0])
    with torch.inference_mode():
        balance(chain, crops)
        exact, inside = before.run(crops), run.layers_between(chain, 1, 0)
        assert float((chain.run(crops) - exact).abs().max()) <= 1  # one level of 255, caused by rounding
        plain = float((chain.run(crops, inside) - exact).square().mean())
        compensate(chain, crops)
        assert float((chain.run(crops, inside) - exact).square().mean()) < plain


def test_only_rows_of_convolutions_are_taken(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (1,)) for name in "xy")
    onnx.save(
        helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])), tmp_path / "g"
    )
    with pytest.raises(ModelError, match="not a chain of convolutions"):
        read(tmp_path / "g")


def test_a_chain_that_starts_with_blocks_of_pixels_computes_what_its_graph_does(tmp_path):
    network, path, pixels = SRVGG(4, 2, 2, block=2), tmp_path / "x.onnx", frame(20, 12)
    path.write_bytes(network.write(tensors(network), 2, "x"))
    with torch.inference_mode():
        levels = torch.pixel_shuffle(read(path).run(tensor(pixels[None])), 4)[0].permute(1, 2, 0).numpy()
    assert np.abs(levels - run_graph(path.read_bytes(), pixels)).max() <= 1
