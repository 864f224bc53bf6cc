"""RealESRGAN on real frames: against the same network run by ncnn, tiled against whole, any size from one pixel up."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from marks import needs_openvino
from paths import SAMPLE

from upres.engine.color.convert import ToRGB
from upres.engine.core.frame import Frame
from upres.engine.decode.reader import Reader
from upres.engine.models import manifest
from upres.engine.models.per_frame import PerFrameModel, load
from upres.engine.runtime import registry as runtimes
from upres.engine.runtime.openvino_cpu import has_bfloat16
from upres.export.distill.drawn import draw
from upres.export.families.registry import identify
from upres.export.verify.reference import reference
from upres.export.weights.read import read

X4, X2 = "realesr-animevideov3-x4", "realesr-animevideov3-x2"


def frames(count):
    """Return frames as the pipeline passes them to a model."""
    with Reader(SAMPLE) as reader:
        to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
        return [Frame(to_rgb(f), f.pts, f.duration) for f in islice(reader.frames(), count)]


def upscale(model, frame):
    return next(iter(model.open(frame.width, frame.height).push(frame))).pixels


def in_tiles(network, side):
    """Return the shipped network on ONNX Runtime with memory for tiles of about this side."""
    path, facts = manifest.find(network)
    return PerFrameModel(
        runtimes.choose("onnxruntime").load(path, "fp32"), facts, tile_memory=side * side * facts.bytes_per_pixel
    )


def by_ncnn(folder, network, pixels):
    """Return the same network, untiled, in float32."""
    weights = read(folder / f"{network}.param")
    planes = pixels.transpose(2, 0, 1).astype(np.float32) / 255
    network_of, tensors = identify(weights)
    result = reference(network_of, tensors, weights.param).run(planes)
    return np.rint(np.clip(result, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def difference(a, b):
    """Return the largest difference in 8-bit levels, and the PSNR in dB."""
    delta = a.astype(np.float64) - b
    mean = np.mean(delta**2)
    return np.abs(delta).max(), np.inf if mean == 0 else 10 * np.log10(255**2 / mean)


def test_x4_is_what_ncnn_gives_on_the_whole_frame(ncnn_models):
    model = in_tiles(X4, 120)
    for frame in frames(50)[::49]:
        largest, psnr = difference(upscale(model, frame), by_ncnn(ncnn_models, X4, frame.pixels))
        assert largest <= 1
        assert psnr >= 85


def test_x2_is_what_ncnn_gives_in_the_interior(ncnn_models):
    inner = np.s_[40:-40, 40:-40]
    frame = frames(1)[0]
    largest, psnr = difference(upscale(in_tiles(X2, 120), frame)[inner], by_ncnn(ncnn_models, X2, frame.pixels)[inner])
    assert largest <= 1
    assert psnr >= 85


@pytest.mark.parametrize("network", [X4, X2])
def test_tiled_equals_whole_bit_for_bit(network):
    frame = frames(1)[0]
    small, whole = in_tiles(network, 100), in_tiles(network, 1024)
    np.testing.assert_array_equal(upscale(small, frame), upscale(whole, frame))


@pytest.mark.parametrize("network", [X4, X2])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (7, 3), (33, 17)])
def test_every_size_comes_out_exactly_scaled(network, width, height):
    model = load(network)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    assert upscale(model, Frame(pixels, 0, 1)).shape == (height * model.scale, width * model.scale, 3)


def test_high_quality_is_within_fifty_decibels_of_exact_or_is_exact():
    frame = frames(1)[0]
    high = load(X4, quality="high")
    _, psnr = difference(upscale(high, frame), upscale(load(X4, quality="exact"), frame))
    assert psnr >= 50
    assert ("bf16" in high.report) == has_bfloat16()


DRAWN = {"subtitles": 36, "text": 31}
"""Minimum PSNR in dB of `fast` on drawn content, as documented in docs/performance.md."""


def drawn_on(pixels, kind):
    """Return a frame with text in Pillow's font, which was not used for calibration, compressed with H.264."""
    return Frame(draw(kind, pixels, [None], 20, np.random.default_rng(5)), 0, 1)


@needs_openvino
@pytest.mark.parametrize("network", [X4, X2, "realesr-live-x2", "realesr-live-x4"])
def test_fast_is_int8_within_forty_decibels_and_its_tiles_equal_the_whole_frame(network):
    frame = frames(1)[0]
    fast, exact = load(network, quality="fast"), load(network, quality="exact")
    assert "int8" in fast.report and fast.digest != load(network).digest
    whole = upscale(fast, frame)
    assert difference(whole, upscale(exact, frame))[1] >= 40
    for kind, least in DRAWN.items():
        other = drawn_on(frame.pixels[-120:, :200], kind)
        assert difference(upscale(fast, other), upscale(exact, other))[1] >= least, kind
    variant = fast._facts.variant("fast", ("int8",))
    cut = PerFrameModel(fast._graph, fast._facts, variant=variant, tile_limit=96)
    np.testing.assert_array_equal(upscale(cut, frame), whole)


def test_fast_makes_no_bands_of_a_ramp():
    ramp = np.broadcast_to(60 + np.arange(256, dtype=np.uint8)[None, :, None] // 4, (32, 256, 3)).copy()
    fast, exact = (upscale(load(X4, quality=quality), Frame(ramp, 0, 1)).astype(int) for quality in ("fast", "exact"))
    inner = slice(32, -32)
    assert abs(fast - exact)[inner, inner].max() <= 12
    bands = [longest_run(each[inner, inner].mean(axis=(0, 2))) for each in (fast, exact)]
    assert bands[0] <= bands[1] + 1


def longest_run(columns):
    """Return the length of the longest run of columns that differ from their neighbors by less than 0.05 levels."""
    changes = np.flatnonzero(abs(np.diff(columns)) >= 0.05)
    return int(np.diff([-1, *changes, len(columns) - 1]).max())


def test_a_network_without_int8_is_as_with_high(monkeypatch):
    path, facts = manifest.find("realesr-live-x2")
    monkeypatch.setattr(manifest, "find", lambda network: (path, replace(facts, variants=())))
    fast, high = load("realesr-live-x2", quality="fast"), load("realesr-live-x2")
    assert fast.report == high.report and fast.digest == high.digest


@needs_openvino
def test_the_two_runtimes_agree():
    frame = frames(1)[0]
    one, other = (upscale(load(X4, quality="exact", runtime=name), frame) for name in ("onnxruntime", "openvino"))
    largest, psnr = difference(one, other)
    assert largest <= 1
    assert psnr >= 85


@pytest.mark.soak
def test_a_network_that_sees_beyond_any_halo_blends_without_a_seam(residual_network):
    facts = residual_network.manifest
    loaded = runtimes.choose().load(residual_network.graph, "fp32")
    frame = frames(1)[0]
    cut = Frame(np.ascontiguousarray(frame.pixels[:64, :200]), 0, 1)
    tiled = upscale(PerFrameModel(loaded, facts, tile_limit=136), cut)
    _, psnr = difference(tiled, upscale(PerFrameModel(loaded, facts), cut))
    assert 45 <= psnr < np.inf


@pytest.mark.parametrize(
    ("width", "height", "network", "expected"),
    [(320, 240, X4, (1280, 960)), (854, 480, X4, (3416, 1920)), (1024, 576, X2, (2048, 1152))],
)
def test_the_sizes_of_the_guide(width, height, network, expected):
    with Reader(SAMPLE) as reader:
        first = next(reader.frames())
        scaled = first.reformat(width, height)
        frame = Frame(ToRGB(reader.info.shape.color)(scaled), 0, 1)
    result = upscale(load(network), frame)
    assert (result.shape[1], result.shape[0]) == expected
