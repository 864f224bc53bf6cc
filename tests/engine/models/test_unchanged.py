"""Unchanged areas are not upscaled again, and the result has the same bits as with every frame upscaled independently."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marks import HAS_OPENVINO, needs_openvino
from paths import SAMPLE

from upres.engine.color.convert import ToRGB
from upres.engine.core.frame import Frame
from upres.engine.decode.reader import Reader
from upres.engine.graphs.unpadded import COLUMNS, ROWS
from upres.engine.models import manifest
from upres.engine.models.per_frame import PerFrameModel, load
from upres.engine.models.unchanged import STEP, Box, Parts, boxes, changes, unpadded_axes
from upres.engine.runtime import registry
from upres.engine.runtime.openvino_cpu import has_bfloat16
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostDevice, HostGraph

X2, X4 = "realesr-animevideov3-x2", "realesr-animevideov3-x4"
HEIGHT, WIDTH = 128, 200
RUNTIMES = [
    ("onnxruntime", "fp32"),
    *([("openvino", "fp32")] if HAS_OPENVINO else []),
    *([("openvino", "bf16")] if has_bfloat16() else []),
]


@pytest.fixture(scope="module")
def desktop():
    """Return a picture with detail everywhere."""
    with Reader(SAMPLE) as reader:
        return np.ascontiguousarray(ToRGB(reader.info.shape.color)(next(reader.frames()))[:HEIGHT, :WIDTH])


def still_picture(desktop):
    other = np.roll(desktop, 9, axis=1)
    return [desktop, desktop.copy(), desktop.copy(), other, other.copy(), desktop]


def moving_cursor(desktop):
    frames = []
    for number in range(4):
        frame = desktop.copy()
        frame[20 + 9 * number : 28 + 9 * number, 30 * number : 30 * number + 6] = 255
        frames.append(frame)
    return frames


def moving_figure(desktop):
    """Return frames in which an oval moves from inside the frame across its right edge."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return [
        np.where(
            (((columns - 70 - 37 * number) / 20) ** 2 + ((rows - 60) / 9) ** 2 <= 1)[..., None],
            np.roll(desktop[:, ::-1], 7 * number, axis=1),
            desktop,
        )
        for number in range(5)
    ]


def at_the_edges(desktop):
    frames = [desktop]
    for top, left in ((0, 0), (HEIGHT - 1, WIDTH - 1), (0, WIDTH - 1), (HEIGHT - 1, 3)):
        frames.append(frames[-1].copy())
        frames[-1][top, left] ^= 255
    return frames


def fade(desktop):
    return [(desktop * (1 - number / 4)).astype(np.uint8) for number in range(3)]


def noise(desktop):
    rng = np.random.default_rng(0)
    return [np.clip(desktop + rng.integers(-9, 9, desktop.shape), 0, 255).astype(np.uint8) for _ in range(3)]


class Counted:
    """A graph that counts the pixels it processes."""

    def __init__(self, graph):
        self.graph, self.pixels = graph, 0
        self.report, self.memory_factor = graph.report, graph.memory_factor

    def run(self, feeds):
        self.pixels += feeds["frame"].size // 3
        return self.graph.run(feeds)


def upscaled(model, frames):
    session = model.open(WIDTH, HEIGHT)
    results = [result for n, each in enumerate(frames) for result in session.push(Frame(each, n, 1))]
    results += session.flush()
    session.close()
    assert [result.pts for result in results] == list(range(len(frames)))
    return [result.pixels for result in results]


FASTEST = RUNTIMES[-1]


@pytest.mark.parametrize(
    ("network", "runtime", "film", "share"),
    [
        (X2, FASTEST, still_picture, 0.5),
        (X2, FASTEST, moving_cursor, 0.9),
        (X2, FASTEST, moving_figure, 0.8),
        (X2, FASTEST, at_the_edges, 0.7),
        (X2, FASTEST, fade, 1.0),
        (X2, FASTEST, noise, 1.0),
        (X4, FASTEST, moving_cursor, 0.9),
        (X2, RUNTIMES[0], moving_cursor, 0.9),
        pytest.param(X2, ("openvino", "int8"), moving_cursor, 0.9, marks=needs_openvino),
    ],
)
def test_results_are_those_of_every_frame_by_itself(desktop, network, runtime, film, share):
    """share: limit on the share of all pixels that the network processes, apart from the trial of whether parts are equal."""
    path, facts = manifest.find(network)
    name, precision = runtime
    graph = Counted(registry.load(name).load(path.with_name(facts.variant("fast", (precision,)).file), precision))
    model, frames = PerFrameModel(graph, facts), film(desktop)
    alone = [upscaled(model, [each])[0] for each in frames]
    whole = graph.pixels
    assert model._parts.exact
    graph.pixels = 0
    for result, reference in zip(upscaled(model, frames), alone, strict=True):
        np.testing.assert_array_equal(result, reference)
    assert graph.pixels <= share * whole


@needs_openvino
@pytest.mark.parametrize("quality", ["exact", "high", "fast"])
def test_parts_away_from_the_edges_are_upscaled_without_padding(desktop, quality):
    """Both along the axes on which the part reaches no edge and along all; no form is loaded twice."""
    model, frames = load("realesr-live-x2", quality=quality, runtime="openvino"), moving_figure(desktop)
    frames += at_the_edges(desktop) + moving_cursor(desktop)
    frames += [np.where(np.arange(WIDTH)[:, None] // 9 == 9, 255 - desktop, desktop), desktop]
    alone = [upscaled(model, [each])[0] for each in frames]
    loads, load_form = [], model._parts._load_unpadded
    model._parts._load_unpadded = lambda axes: (loads.append(axes), load_form(axes))[1]
    for result, reference in zip(upscaled(model, frames), alone, strict=True):
        np.testing.assert_array_equal(result, reference)
    assert sorted(loads) == [(ROWS,), (ROWS, COLUMNS), (COLUMNS,)]
    assert None not in model._parts._unpadded.values()


@needs_openvino
def test_a_form_without_padding_whose_bits_differ_is_not_used(desktop):
    path, facts = manifest.find(X2)
    graph = registry.load("openvino").load(path, "fp32")
    parts = Parts(graph, facts, lambda axes: graph)
    assert parts.exact and parts.unpadded((ROWS, COLUMNS)) is None


@given(st.integers(0, 99), st.integers(1, 50), st.integers(0, 40))
def test_padding_is_removed_where_the_halo_is_part_of_the_input(start, size, halo):
    facts = replace(manifest.find(X2)[1], halo=halo)
    change = Box(start, start + size, 100, 101)
    for affected, inputs in boxes([change], 150, 201, facts) or []:
        assert (ROWS in unpadded_axes(affected, inputs, facts)) == (
            start >= 2 * halo and start + size + 2 * halo <= 150
        )
        assert COLUMNS in unpadded_axes(affected, inputs, facts)


MANY_BOXES = """
import numpy, resource
from upres.engine.core.frame import Frame
from upres.engine.models.per_frame import load

model = load("realesr-live-x2", quality="fast", runtime="openvino")
loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
session, rng = model.open(320, 240), numpy.random.default_rng(0)
pixels = rng.integers(0, 256, (240, 320, 3), numpy.uint8)
for number in range(60):
    (top, left), (tall, wide) = rng.integers(0, 180, 2), rng.integers(8, 60, 2)
    pixels = pixels.copy()
    pixels[0 if number % 4 == 0 else top : top + tall, 0 if number % 4 == 1 else left : left + wide] ^= 255
    list(session.push(Frame(pixels, number, 1)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded) / (model.memory(320, 240) >> 10))
"""


@needs_openvino
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is that of Linux")
def test_boxes_of_many_sizes_take_no_more_memory_than_predicted():
    done = subprocess.run([sys.executable, "-c", MANY_BOXES], capture_output=True, text=True, check=True, timeout=250)
    assert float(done.stdout) < 1


def test_frames_in_flight_share_the_result_of_the_same_frame(desktop):
    path, facts = manifest.find(X2)
    graph, device = OnnxRuntimeGraph(path, 2), HostDevice(1)
    frames = still_picture(desktop)
    expected = upscaled(PerFrameModel(graph, facts), frames)
    queued = HostGraph(graph, device)
    runs, enqueue = [], queued.enqueue
    queued.enqueue = lambda bound: (runs.append(1), enqueue(bound))[1]
    for result, reference in zip(upscaled(PerFrameModel(queued, facts), frames), expected, strict=True):
        np.testing.assert_array_equal(result, reference)
    assert len(runs) == 3


def test_a_runtime_whose_parts_differ_gets_whole_frames(desktop):
    """Like a runtime whose order of summation depends on the size."""
    path, facts = manifest.find(X2)
    exact = OnnxRuntimeGraph(path, 2)

    class Uneven(Counted):
        def run(self, feeds):
            outputs = super().run(feeds)
            outputs["upscaled"][0, -1, -1] += feeds["frame"].shape[2] % 8 == 0
            outputs["upscaled"][0] += feeds["frame"].shape[1] % 8 == 0
            return outputs

    graph = Uneven(exact)
    assert Parts(exact, facts).exact and not Parts(graph, facts).exact
    model, frames, trial = PerFrameModel(graph, facts), moving_cursor(desktop)[:2], graph.pixels
    upscaled(model, frames)
    assert graph.pixels - 2 * trial == len(frames) * (HEIGHT + 4) * (WIDTH + 4)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=6),
)
def test_boxes_hold_all_that_changed_and_lie_apart(height, width, gap, places):
    before = np.zeros((height, width, 3), np.uint8)
    now, inside = before.copy(), {(y % height, x % width) for y, x in places}
    for number, (y, x) in enumerate(inside):
        now[y, x, number % 3] = 1
    boxes = changes(before, now, gap)
    covered = [[each for each in inside if each in area(box)] for box in boxes]
    assert sum(map(len, covered)) == len(inside)
    for box, inside_box in zip(boxes, covered, strict=True):
        if inside_box:
            assert box.left == min(x for _, x in inside_box) and box.right == max(x for _, x in inside_box) + 1
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            rows = max(one.top, other.top) - min(one.bottom, other.bottom)
            columns = max(one.left, other.left) - min(one.right, other.right)
            assert max(rows, columns) >= gap


@given(st.integers(1, 3), st.integers(0, 20), st.integers(40, 200), st.data())
def test_input_boxes_hold_the_halo_and_have_few_sizes(multiple, halo, length, data):
    facts = replace(manifest.find(X2)[1], halo=halo, multiple=multiple)
    side, step = length * multiple, -(-STEP // multiple) * multiple
    top = data.draw(st.integers(0, side - 1))
    change = Box(top, data.draw(st.integers(top + 1, side)), side // 2, side // 2 + 1)
    for affected, inputs in boxes([change], side, side, facts) or []:
        assert affected == change.grown(halo, side, side)
        needed = affected.grown(halo, side, side)
        for start, stop, first, last in (
            (needed.top, needed.bottom, inputs.top, inputs.bottom),
            (needed.left, needed.right, inputs.left, inputs.right),
        ):
            assert 0 <= first <= start < stop <= last <= side and first % multiple == 0
            assert last - first == side or (
                (last - first) % step == 0 and last - first < stop - start + step + multiple
            )


def test_a_figure_that_moves_has_one_size():
    facts = manifest.find(X2)[1]
    figures = [Box(50 + number, 90 + number, 40 + 8 * number, 71 + 8 * number) for number in range(20)]
    sizes = {
        (box.bottom - box.top, box.right - box.left) for each in figures for _, box in boxes([each], 364, 644, facts)
    }
    assert sizes == {(120, 112)}


def area(box):
    return {(y, x) for y in range(box.top, box.bottom) for x in range(box.left, box.right)}
