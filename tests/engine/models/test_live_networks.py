"""The light networks: valid manifests, close to their teachers, exactly tileable, and used on request only."""

import hashlib
from itertools import islice

import numpy as np
import pytest
from paths import SAMPLE

from upres.engine.color.convert import ToRGB
from upres.engine.core.frame import Frame
from upres.engine.decode.reader import Reader
from upres.engine.models import manifest
from upres.engine.models.catalog import NETWORKS
from upres.engine.models.per_frame import PerFrameModel, load
from upres.engine.models.registry import CONTENTS, choose
from upres.engine.runtime import registry as runtimes
from upres.export.graphs.analysis import analyze

BYTES = 200_000
LIVE = {"RealESRGAN_Vid_x2": "realesr-live-x2", "RealESRGAN_Vid_x4": "realesr-live-x4"}
MULTIPLES = {"realesr-live-x2": 2, "realesr-live-x4": 1}
FLOORS = {"realesr-live-x2": 34.8, "realesr-live-x4": 34.0}
"""Minimum PSNR in dB to the teacher on the sample clip, which was not used for training; slightly below the measured one."""


@pytest.fixture(scope="module")
def frame():
    """Return the middle of the sample clip, as the pipeline passes it to a model."""
    with Reader(SAMPLE) as reader:
        to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
        (middle,) = islice(reader.frames(), 37, 38)
        return Frame(to_rgb(middle), 0, 1)


def upscale(model, frame):
    return next(iter(model.open(frame.width, frame.height).push(frame))).pixels


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2))


@pytest.mark.parametrize("network", LIVE.values())
def test_a_manifest_says_what_the_graph_is(network):
    path, facts = manifest.find(network)
    graph = path.read_bytes()
    measured = analyze(graph)
    assert len(graph) <= BYTES
    assert hashlib.sha256(graph).hexdigest() == facts.graph_sha256
    assert (measured.halo, measured.flops_per_pixel, measured.bytes_per_pixel) == (
        facts.halo,
        facts.flops_per_pixel,
        facts.bytes_per_pixel,
    )
    assert facts.licence == NETWORKS[network].licence
    variant = facts.variant("fast", ("int8",))
    manifest.check(path.with_name(variant.file), variant)
    assert variant.precision == "int8" and path.with_name(variant.file).stat().st_size <= BYTES
    assert (facts.exact_halo, facts.multiple, facts.psnr is None or facts.psnr > 90) == (
        True,
        MULTIPLES[network],
        True,
    )


@pytest.mark.parametrize("network", LIVE.values())
def test_tiles_equal_the_whole_frame(network, frame):
    path, facts = manifest.find(network)
    graph = runtimes.choose("onnxruntime").load(path, "fp32")
    whole = PerFrameModel(graph, facts)
    tiled = PerFrameModel(graph, facts, tile_memory=64 * 64 * facts.bytes_per_pixel)
    assert np.array_equal(upscale(tiled, frame), upscale(whole, frame))


@pytest.mark.parametrize("network", LIVE.values())
def test_it_is_close_to_its_teacher_on_held_out_frames(network, frame):
    teacher = upscale(load(network.replace("live", "animevideov3"), quality="exact"), frame)
    assert psnr(upscale(load(network, quality="exact"), frame), teacher) >= FLOORS[network]
    assert psnr(upscale(load(network), frame), teacher) >= FLOORS[network]


@pytest.mark.parametrize(("model", "network"), LIVE.items())
def test_the_live_network_is_used_on_request_only(model, network):
    assert choose(model, "live").network == network
    assert choose(network).network == network
    assert network not in {choose(model, content).network for content in CONTENTS if content != "live"}


def test_a_model_without_a_light_network_says_so():
    choice = choose("FlashVSR_Tiny", "live")
    assert choice.network == "flashvsr-v1.1-tiny"
    assert choice.note == "FlashVSR_Tiny has no light network; using flashvsr-v1.1-tiny"
