"""Frames in flight on a device: the same results as one by one, in any order of execution and with too little memory."""

from dataclasses import replace

import numpy as np
import pytest
from small_networks import frame, near_sighted

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.core.frame import FULL, Frame
from upres.engine.models.chain import Chain
from upres.engine.models.in_flight import DEPTH
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.pipeline.estimate import seconds_a_frame
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostDevice, HostGraph
from upres.engine.runtime.sixteen_bits import sixteen_bits

WIDTH, HEIGHT, FRAMES = 300, 60, 5


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path, facts = near_sighted(tmp_path_factory.mktemp("network"))
    return OnnxRuntimeGraph(path, 2), replace(facts, pad=2)


@pytest.fixture(scope="module")
def expected(network):
    session = PerFrameModel(*network).open(WIDTH, HEIGHT)
    return [next(iter(session.push(each))).pixels for each in frames()]


def frames():
    return [Frame(frame(WIDTH, HEIGHT, number), 3 * number, 3, shot=number == 2) for number in range(FRAMES)]


def in_tiles(network, device, side, graph=HostGraph):
    """Return a model on a device, with memory for tiles of about this side."""
    return PerFrameModel(graph(network[0], device), network[1], tile_memory=side * side * network[1].bytes_per_pixel)


@pytest.mark.parametrize("side", [120, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_frames_come_out_as_one_by_one_and_in_their_order(network, expected, seed, side):
    device = HostDevice(seed)
    session = in_tiles(network, device, side).open(WIDTH, HEIGHT)
    results = [result for each in frames() for result in session.push(each)]
    assert len(results) < FRAMES
    results += session.flush()
    assert [(r.pts, r.duration, r.shot) for r in results] == [(f.pts, f.duration, f.shot) for f in frames()]
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.pixels, reference)
    again = [*session.push(frames()[0]), *session.flush()]
    np.testing.assert_array_equal(again[0].pixels, expected[0])
    session.close()
    session.close()
    assert device.in_use == 0


@pytest.mark.parametrize("side", [120, 1000])
def test_results_of_a_still_picture_are_returned_while_it_is_still(network, expected, side):
    device = HostDevice(2)
    session = in_tiles(network, device, side).open(WIDTH, HEIGHT)
    results = []
    for pts in range(40):
        results += session.push(Frame(frames()[0].pixels, pts, 1))
        assert len(results) >= pts - DEPTH
    results += session.flush()
    session.close()
    assert [each.pts for each in results] == list(range(40))
    assert all(np.array_equal(each.pixels, expected[0]) for each in results)


def test_a_live_source_gets_every_frame_from_the_push_that_brings_it(network, expected):
    device = HostDevice(1)
    chain = Chain([in_tiles(network, device, 120)], live=True)
    results = []

    def source():
        for each in frames():
            yield each
            assert len(results) == each.pts // 3 + 1

    for result in chain.run(source()):
        results.append(result.pixels)
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, reference)
    assert device.in_use == 0


class Short(HostGraph):
    """A device with memory for the activations of tiles of up to `pixels` pixels, from a certain run on."""

    pixels, runs, last = 12_000, 0, 4

    def enqueue(self, bound):
        self.runs += 1
        if self.runs > self.last and bound["frame"].spec.nbytes > 3 * self.pixels:
            raise MemoryShortError("the GPU has no memory left")
        super().enqueue(bound)


@pytest.mark.parametrize(
    ("last", "seed"),
    [
        pytest.param(last, seed, marks=() if seed == last % 3 else pytest.mark.soak)
        for last in range(FRAMES)
        for seed in range(3)
    ],
)
def test_where_memory_is_short_tiles_are_halved_and_no_frame_is_lost(network, expected, seed, last, monkeypatch):
    monkeypatch.setattr(Short, "last", last)
    device = HostDevice(seed)
    chain = Chain([in_tiles(network, device, 1000, Short)])
    results = list(chain.run(iter(frames())))
    assert [each.pts for each in results] == [each.pts for each in frames()]
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.pixels, reference)
    assert len(chain.notes) == 1
    assert "GPU memory is low: realesr-live-x2 continues with tiles of " in chain.notes[0]
    assert device.in_use == 0


class ShortAtOnce(HostGraph):
    """A device that runs out of memory when it prepares a second time for tiles of more than this many pixels."""

    pixels, prepared = 12_000, 0

    def prepare(self, inputs, *, width, height):
        self.prepared += 1
        if self.prepared > 1 and inputs["frame"].nbytes > 3 * self.pixels:
            raise MemoryShortError("the GPU has no memory left")
        return super().prepare(inputs, width=width, height=height)


def test_tiles_of_a_live_session_are_halved_if_memory_is_short(network, expected):
    device = HostDevice(1)
    chain = Chain([in_tiles(network, device, 1000, ShortAtOnce)], live=True)
    for result, reference in zip(chain.run(iter(frames())), expected, strict=True):
        np.testing.assert_array_equal(result.pixels, reference)
    assert "continues with tiles of " in chain.notes[0]
    assert device.in_use == 0


def test_memory_that_is_short_for_the_smallest_tile_is_an_error_and_leaves_nothing_taken(network):
    device = HostDevice(memory=10_000)
    with pytest.raises(MemoryShortError):
        in_tiles(network, device, 1000).open(WIDTH, HEIGHT)
    assert device.in_use == 0
    assert issubclass(MemoryShortError, ModelError)


def test_a_session_that_is_abandoned_gives_its_memory_back(network):
    device = HostDevice(2)
    session = in_tiles(network, device, 120).open(WIDTH, HEIGHT)
    for each in frames()[:2]:
        list(session.push(each))
    assert device.in_use
    session.close()
    assert device.in_use == 0


def test_a_speed_trial_fills_the_device_and_leaves_it(network):
    device, sizes = HostDevice(), set()

    class Seen(HostGraph):
        def enqueue(self, bound):
            sizes.add(bound["frame"].spec.shape)
            super().enqueue(bound)

    assert seconds_a_frame(in_tiles(network, device, 1000, Seen), WIDTH, HEIGHT) > 0
    assert sizes == {(1, HEIGHT + 4, WIDTH + 4, 3)}
    assert device.in_use == 0


@pytest.mark.parametrize("side", [120, 1000])
def test_frames_of_sixteen_bits_come_out_as_one_by_one(network, tmp_path, side):
    (tmp_path / "deep.onnx").write_bytes(sixteen_bits(near_sighted(tmp_path)[0]))
    graph, facts = OnnxRuntimeGraph(tmp_path / "deep.onnx", 2), network[1]
    device, memory = HostDevice(0), side * side * facts.bytes_per_pixel
    models = (
        PerFrameModel(each, facts, tile_memory=memory, is_deep=True) for each in (graph, HostGraph(graph, device))
    )
    rng = np.random.default_rng(0)
    sent = [Frame(rng.integers(0, FULL, (HEIGHT, WIDTH, 3), np.uint16), number, 1) for number in range(3)]
    results = []
    for model in models:
        session = model.open(WIDTH, HEIGHT)
        results.append([each.pixels for frame in sent for each in session.push(frame)])
        results[-1] += [each.pixels for each in session.flush()]
        session.close()
    for one, other in zip(*results, strict=True):
        assert other.dtype == np.uint16
        np.testing.assert_array_equal(one, other)
    assert device.in_use == 0
