import numpy as np
import onnxruntime
import pytest
from small_networks import RRDB, SMALL, SRVGG, frame, tensors

from upres.engine.models import manifest
from upres.engine.runtime import registry
from upres.export.graphs.analysis import BYTES_MEASURED, analyze


@pytest.mark.parametrize(
    ("net", "scale", "halo"),
    [
        (SMALL, 4, 4),
        (SMALL, 2, 5),
        (SRVGG(4, 5, 2), 2, 7),
        (RRDB(8, 4, 1, 4), 4, 19),  # 1 + 15 + 1, then 1 at double size and 3 at four times: 1.25
        (RRDB(8, 4, 1, 2), 2, 38),  # the same 18.25 in blocks of two, and the block itself
    ],
)
def test_the_halo_is_the_receptive_field(net, scale, halo):
    assert analyze(net.write(tensors(net), scale, "x")).halo == halo


@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_with_the_halo_equal_the_frame_and_with_one_less_do_not(scale):
    graph = SMALL.write(tensors(SMALL, seed=3), scale, "x")
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def run(pixels):
        return session.run(None, {"frame": pixels[None]})[0][0]

    halo = analyze(graph).halo
    assert tile_differs(run, scale, halo) == 0
    assert tile_differs(run, scale, halo - 1) > 0


@pytest.mark.parametrize("name", ["realesr-animevideov3-x4", "realesr-animevideov3-x2"])
def test_the_shipped_halo_is_right(name):
    path, facts_of = manifest.find(name)
    graph = registry.choose("onnxruntime").load(path, "fp32")

    def run(pixels):
        return graph.run({"frame": np.ascontiguousarray(pixels[None])})["upscaled"][0]

    assert facts_of.exact_halo
    assert tile_differs(run, facts_of.scale, facts_of.halo) == 0
    if facts_of.scale == 4:  # The outermost pixel of the folded halving weighs too little to change a level.
        assert tile_differs(run, facts_of.scale, facts_of.halo - 1) > 0


def tile_differs(run, scale: int, halo: int) -> int:
    """Count the values of a tile with a halo that differ from the whole frame's, on black and white noise."""
    pixels = np.where(frame(110, 90, seed=1) > 127, 255, 0).astype(np.uint8)
    top, left, height, width = 30, 35, 31, 40
    tile = run(pixels[top - halo : top + height + halo, left - halo : left + width + halo])
    inner = tile[halo * scale : (halo + height) * scale, halo * scale : (halo + width) * scale]
    whole = run(pixels)[top * scale : (top + height) * scale, left * scale : (left + width) * scale]
    return int((inner != whole).sum())


def test_operations_and_memory_per_input_pixel():
    net = SRVGG(4, 0, 2)
    facts = analyze(net.write(tensors(net), 2, "x"))
    assert facts.flops_per_pixel == 2 * (3 * 4 * 9 + 4 * 12 * 9 + 3 * 12)
    # The frame in float32, the results of the last convolution and of the repetition, and their sum.
    assert facts.bytes_per_pixel == BYTES_MEASURED * 4 * (12 + 12 + 12)
