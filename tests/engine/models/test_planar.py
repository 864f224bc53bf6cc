"""Networks on planes: within one level of swscale and the same network, for any tiles and order of execution."""

import gc
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from planar import decoded, off_by, queued, repeating
from small_networks import near_sighted

from upres.engine.color.convert import FromRGB, ToRGB
from upres.engine.color.planes import ToPlanes
from upres.engine.color.yuv_graph import LUMA
from upres.engine.core.errors import MemoryShortError
from upres.engine.core.frame import Color, Frame, Layout
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.models.planar import BYTES_IN, BYTES_UPSCALED
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostDevice, HostGraph

WIDTH, HEIGHT = 200, 100
BT709 = Color("bt709", "tv", "bt709", "bt709")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path, facts = near_sighted(tmp_path_factory.mktemp("network"))
    return OnnxRuntimeGraph(path, 2), facts


@pytest.fixture(scope="module")
def pictures():
    """Return distinct decoded frames, with chroma on every second column."""
    first = decoded().reformat(WIDTH, HEIGHT)
    return [first.reformat(width, HEIGHT).reformat(WIDTH, HEIGHT) for width in (WIDTH, 120, 60)]


def on_planes(graph, facts, device, *, side=1000, color=BT709, kind=queued):
    """Return a model on a device, for planes, with memory for tiles of about this side."""
    model = PerFrameModel(kind(graph, device), facts, tile_memory=side * side * facts.bytes_per_pixel)
    return model.on_planes(Layout(color, "left"), WIDTH, HEIGHT)


def upscaled(model, pictures, color=BT709):
    session = model.open(WIDTH, HEIGHT)
    take = ToPlanes(color)
    frames = [Frame(take(each), number, 1) for number, each in enumerate(pictures)]
    results = [result for each in frames for result in session.push(each)] + list(session.flush())
    session.close()
    assert [each.pts for each in results] == list(range(len(pictures)))
    assert all(each.planar and (each.width, each.height) == (2 * WIDTH, 2 * HEIGHT) for each in results)
    return [each.pixels for each in results], session.notes


@pytest.mark.parametrize("side", [80, 1000])
@pytest.mark.parametrize("scope", ["tv", "pc"])
@pytest.mark.parametrize("matrix", LUMA)
def test_planes_through_a_device_are_at_most_a_level_from_swscale(network, pictures, matrix, scope, side):
    color, device = Color(matrix, scope, "bt709", "bt709"), HostDevice(1)
    [result], _ = upscaled(on_planes(repeating(), network[1], device, side=side, color=color), pictures[:1], color)
    rgb = ToRGB(color)(pictures[0])
    assert off_by(result, FromRGB(color, "yuv420p")(rgb.repeat(2, 0).repeat(2, 1))) <= 1
    assert device.in_use == 0


@pytest.mark.parametrize("pad", [0, 2])
def test_a_network_on_planes_is_the_network_between_swscales(network, pictures, pad):
    graph, facts = network[0], replace(network[1], pad=pad)
    results, _ = upscaled(on_planes(graph, facts, HostDevice(2), side=90), pictures)
    plain = PerFrameModel(graph, facts).open(WIDTH, HEIGHT)
    for result, picture in zip(results, pictures, strict=True):
        [rgb] = plain.push(Frame(ToRGB(BT709)(picture), 0, 1))
        assert (
            off_by(result, FromRGB(BT709, "yuv420p")(rgb.pixels)) <= 3
        )  # the network amplifies a difference of one level


@pytest.mark.parametrize(("pad", "multiple", "halo"), [(0, 1, 9), (2, 1, 8), (2, 4, 9), (0, 8, 10), (0, 1, 6)])
def test_tiles_of_planes_are_the_whole_frame(network, pictures, pad, multiple, halo):
    graph, facts = repeating(halo), replace(network[1], pad=pad, multiple=multiple, halo=halo)
    whole, _ = upscaled(on_planes(graph, facts, HostDevice(2)), pictures)
    for seed in range(3):
        tiled, _ = upscaled(on_planes(graph, facts, HostDevice(seed), side=90), pictures)
        for one, other in zip(whole, tiled, strict=True):
            np.testing.assert_array_equal(one, other)


def test_tiles_that_are_blended_are_blended_in_every_plane(network, pictures):
    graph, facts = network[0], replace(network[1], exact_halo=False)
    [whole], _ = upscaled(on_planes(graph, facts, HostDevice()), pictures[:1])
    [tiled], _ = upscaled(on_planes(graph, facts, HostDevice(), side=90), pictures[:1])
    assert abs(whole.astype(int) - tiled).max() <= 8
    assert np.mean((whole.astype(int) - tiled) ** 2) < 0.1


class Short(HostGraph):
    """A device with memory for the activations of tiles of this many pixels."""

    def enqueue(self, bound):
        if "upscaled" in bound and bound["upscaled"].spec.nbytes > 4 * 3 * 12_000:
            raise MemoryShortError("the GPU has no memory left")
        super().enqueue(bound)


def test_where_memory_is_short_tiles_of_planes_are_halved(network, pictures):
    device, expected = HostDevice(3), upscaled(on_planes(*network, HostDevice()), pictures)[0]

    def short(graph, device):
        return Short(graph, device, load=lambda model: OnnxRuntimeGraph(model, 1))

    results, notes = upscaled(on_planes(*network, device, kind=short), pictures)
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(notes) == 1 and "continues with tiles of" in notes[0]
    assert device.in_use == 0


def test_frames_stay_rgb_if_converting_on_the_device_is_slower_or_impossible(network):
    graph, facts = network
    layout = Layout(BT709, "left")
    assert PerFrameModel(graph, facts).on_planes(layout, WIDTH, HEIGHT) is None  # swscale is faster on a CPU
    assert PerFrameModel(HostGraph(graph, HostDevice()), facts).on_planes(layout, WIDTH, HEIGHT) is None
    model = PerFrameModel(queued(graph, HostDevice()), facts)
    assert model.on_planes(layout, WIDTH + 1, HEIGHT) is None
    planar = model.on_planes(layout, WIDTH, HEIGHT)
    assert planar.report == f"{model.report}, colors too" and not model.planar
    assert planar.memory(WIDTH, HEIGHT) < model.memory(WIDTH, HEIGHT)


PEAK = """
import sys
from pathlib import Path
import numpy as np, onnxruntime
from upres.engine.color import yuv_graph
from upres.engine.core.frame import Color, Layout
side, color = int(sys.argv[1]), Color("bt709", "tv", "bt709", "bt709")
there, back = (onnxruntime.InferenceSession(each) for each in (yuv_graph.to_rgb(Layout(color, "left")), yuv_graph.from_rgb(color)))

def zeros(*shape):
    return np.zeros((1, *shape), np.uint8)

def run(side):
    rows, columns = (np.arange(side, dtype=np.int32) for _ in range(2))
    chroma = zeros(1, side // 2, side // 2)
    if sys.argv[2] == "in":
        there.run(None, {"y": zeros(1, side, side), "u": chroma, "v": chroma, "rows": rows, "columns": columns})
    else:
        back.run(None, {"upscaled": zeros(side, side, 3), "upscaled_rows": rows, "upscaled_columns": columns})

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

run(64)
before = peak()
run(side)
print((peak() - before) / side**2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize(("way", "predicted"), [("in", BYTES_IN), ("out", BYTES_UPSCALED)])
def test_converting_colors_takes_the_memory_that_is_predicted_for_it(way, predicted):
    done = subprocess.run([sys.executable, "-c", PEAK, "1536", way], capture_output=True, text=True, timeout=100)
    assert predicted / 2 < float(done.stdout) < 1.05 * predicted, done.stderr


def test_tile_sizes_account_for_tiles_in_flight_and_color_conversion(network):
    """Tiles that would be small enough for the network alone are too large with the color conversion."""
    graph, facts = network
    room = 400 * 400 * facts.bytes_per_pixel
    model = PerFrameModel(queued(graph, HostDevice()), facts, tile_memory=room)
    planar = model.on_planes(Layout(BT709, "left"), 1000, 1000)
    ring = 3 * (1 + facts.scale**2)
    for each, pixel in (
        (model, facts.bytes_per_pixel + 3 * ring),
        (planar, facts.bytes_per_pixel + 1.5 * ring + BYTES_IN + BYTES_UPSCALED * facts.scale**2),
    ):
        assert 0.3 * room < each._plan(1000, 1000).largest * pixel <= room
    assert planar._plan(1000, 1000).largest < model._plan(1000, 1000).largest


def test_models_with_the_same_colors_share_conversion_graphs_and_the_last_one_releases_them(network):
    """A graph keeps its memory for the next run, so four jobs of a worker would otherwise use four times as much."""
    loaded = []

    def load(model):
        loaded.append(model)
        return OnnxRuntimeGraph(model, 1)

    model = PerFrameModel(HostGraph(network[0], HostDevice(), load=load), network[1])
    one, other = (model.on_planes(Layout(BT709, "left"), WIDTH, HEIGHT) for _ in range(2))
    assert one._graph is other._graph and len(loaded) == 2
    assert model.on_planes(Layout(BT709, "center"), WIDTH, HEIGHT)._graph is not one._graph
    del one, other
    gc.collect()
    model.on_planes(Layout(BT709, "left"), WIDTH, HEIGHT)
    assert len(loaded) == 6
