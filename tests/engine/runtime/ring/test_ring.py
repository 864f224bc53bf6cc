"""The ring on a device that runs late and in any order its waits allow: same results and order, and no leaked memory."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from late import Hasty
from small_networks import SMALL, frame, tensors

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.device import Spec
from upres.engine.runtime.ring.host import HostDevice, HostGraph
from upres.engine.runtime.ring.ring import Ring

WIDTH, HEIGHT, FRAMES = 12, 8, 9
INPUTS = {"frame": Spec((1, HEIGHT, WIDTH, 3), np.dtype(np.uint8))}
OUTPUTS = {"upscaled": Spec((1, 4 * HEIGHT, 4 * WIDTH, 3), np.dtype(np.uint8))}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Return a real graph on ONNX Runtime's CPU provider, frames, and its result for each frame."""
    path = tmp_path_factory.mktemp("ring") / "small.onnx"
    path.write_bytes(SMALL.write(tensors(SMALL), SMALL.scale, "small"))
    graph = OnnxRuntimeGraph(path, 1)
    frames = [frame(WIDTH, HEIGHT, seed)[None] for seed in range(FRAMES)]
    return graph, frames, [graph.run({"frame": each})["upscaled"] for each in frames]


def through(ring, frames):
    """Return the results of a ring that is kept full, in the order in which they are collected."""
    results = []
    for each in frames:
        if ring.full:
            results.append(ring.collect()["upscaled"].copy())
        ring.submit({"frame": each})
    while len(ring):
        results.append(ring.collect()["upscaled"].copy())
    return results


def same(results, expected):
    return all(np.array_equal(*pair) for pair in zip(results, expected, strict=True))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_whatever_order_a_device_works_in_results_and_their_order_are_those_of_plain_runs(network, depth):
    graph, frames, expected = network
    for seed in range(200):
        device = HostDevice(seed)
        ring = Ring(HostGraph(graph, device), INPUTS, OUTPUTS, depth)
        assert same(through(ring, frames), expected), f"seed {seed}"
        ring.close()
        ring.close()
        assert device.in_use == 0


@pytest.mark.parametrize(("missing", "wrong"), [(None, False), ((1, 2), True), ((3, 1), True), (("host", 3), True)])
def test_without_any_one_of_its_waits_the_results_would_be_wrong(network, missing, wrong):
    """Streams count from 1: the graph's own, copies in, copies out."""
    graph, frames, expected = network

    def right(seed):
        ring = Ring(HostGraph(graph, Hasty(seed, missing)), INPUTS, OUTPUTS, 2)
        return same(through(ring, frames), expected)

    assert (not all(map(right, range(40)))) == wrong


class OfAThread(HostDevice):
    """A device that, like CUDA, may only be used by threads that have made it their current device."""

    def __init__(self):
        self._threads = set()
        super().__init__()

    def use(self):
        self._threads.add(threading.get_ident())

    def stream(self):
        return self._used(super().stream)()

    def memory(self, nbytes):
        return self._used(super().memory)(nbytes)

    host_memory = memory

    def run_some(self):
        self._used(super().run_some)()

    def run_until(self, event):
        self._used(super().run_until)(event)

    def _used(self, work):
        assert threading.get_ident() in self._threads, "it is not the thread's device"
        return work


def test_the_device_is_that_of_whatever_thread_uses_the_ring(network):
    graph, frames, expected = network
    device = OfAThread()
    device.use()
    queued = HostGraph(graph, device)

    def in_another_thread(work, *arguments):
        device._threads.clear()  # a new thread may have the identifier of one that has ended
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(work, *arguments).result()

    ring = in_another_thread(Ring, queued, INPUTS, OUTPUTS, 2)
    in_another_thread(ring.submit, {"frame": frames[0]})
    np.testing.assert_array_equal(in_another_thread(ring.collect)["upscaled"], expected[0])
    in_another_thread(ring.submit, {"frame": frames[1]})
    in_another_thread(ring.close)
    assert device.in_use == 0


class Failing(HostGraph):
    """A graph that fails at one run, before or after its work was enqueued."""

    def __init__(self, graph, device, failing_run, *, queued):
        super().__init__(graph, device)
        self.runs_until_failure, self.queued = failing_run, queued

    def enqueue(self, bound):
        self.runs_until_failure -= 1
        if self.runs_until_failure == 0 and not self.queued:
            raise MemoryShortError("no memory")
        super().enqueue(bound)
        if self.runs_until_failure == 0:
            raise ModelError("refused")


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_fails_costs_itself_alone(network, seed, queued):
    graph, frames, expected = network
    device = HostDevice(seed)
    ring = Ring(Failing(graph, device, 2, queued=queued), INPUTS, OUTPUTS, 2)
    ring.submit({"frame": frames[0]})
    with pytest.raises(ModelError):
        ring.submit({"frame": frames[1]})
    ring.submit({"frame": frames[2]})
    assert ring.full
    results = [ring.collect()["upscaled"].copy() for _ in range(2)]
    assert same(results, [expected[0], expected[2]])
    ring.close()
    assert device.in_use == 0


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_a_ring_that_is_closed_behind_a_run_that_failed_waits_until_nothing_uses_its_memory(network, seed, queued):
    graph, frames, _ = network
    device = HostDevice(seed)
    ring = Ring(Failing(graph, device, 1, queued=queued), INPUTS, OUTPUTS, 1)
    with pytest.raises(ModelError):
        ring.submit({"frame": frames[0]})
    ring.close()
    assert device.in_use == 0


def test_a_ring_that_is_closed_behind_a_copy_waits_for_that_too(network, monkeypatch):
    """The second of two inputs has the wrong shape after the copy of the first was enqueued and is still pending."""
    monkeypatch.setattr(HostDevice, "run_some", lambda device: None)
    for seed in range(20):
        device = HostDevice(seed)
        ring = Ring(HostGraph(network[0], device), {**INPUTS, "other": INPUTS["frame"]}, OUTPUTS, 1)
        with pytest.raises(ValueError, match="broadcast"):
            ring.submit({"frame": network[1][0], "other": np.zeros((1, HEIGHT, 1, 1), np.uint8)[:, 1:]})
        ring.close()
        assert device.in_use == 0


def test_memory_that_work_under_way_uses_is_not_given_back():
    device = HostDevice(2)  # whose first piece of work is late
    source, target = device.memory(8), device.memory(8)
    device.stream().copy(source, target)
    with pytest.raises(RuntimeError, match="memory is freed while work in flight uses it"):
        target.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_ring_that_is_abandoned_with_runs_under_way_leaves_nothing_taken(network, seed):
    graph, frames, _ = network
    device = HostDevice(seed)
    ring = Ring(HostGraph(graph, device), INPUTS, OUTPUTS, 3)
    for each in frames[:3]:
        ring.submit({"frame": each})
    ring.close()
    assert device.in_use == 0


def test_memory_that_is_short_for_the_ring_itself_is_all_given_back(network):
    device = HostDevice(memory=3 * (INPUTS["frame"].nbytes + OUTPUTS["upscaled"].nbytes))
    with pytest.raises(MemoryShortError):
        Ring(HostGraph(network[0], device), INPUTS, OUTPUTS, 2)
    assert device.in_use == 0


def test_a_run_of_the_wrong_size_is_refused(network):
    ring = Ring(HostGraph(network[0], HostDevice()), INPUTS, OUTPUTS, 1)
    with pytest.raises(ValueError, match="broadcast"):
        ring.submit({"frame": np.zeros((1, HEIGHT, WIDTH + 1, 3), np.uint8)})
    assert not ring.full
    ring.close()
