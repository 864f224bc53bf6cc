"""State and other tensors that stay on a device, for a graph of three nodes and any order of execution."""

import numpy as np
import onnx
import pytest
from late import LateGraph
from onnx import TensorProto, helper

from upres.engine.core.errors import MemoryShortError
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ort_at_once import GraphAtOnce
from upres.engine.runtime.ring.at_once import HostAtOnce
from upres.engine.runtime.ring.device import Spec
from upres.engine.runtime.ring.host import HostDevice
from upres.engine.runtime.ring.resident import Resident, State
from upres.engine.runtime.ring.ring import Ring

SHAPE = ["H/8", "2*W", 3]
SIZES = {"H": 16, "W": 1}
SEEN = {"seen": Spec((2, 2, 3), np.dtype(np.float32))}


def write(path, kind=TensorProto.FLOAT):
    """Return a graph that adds one to its state of two runs ago, and also outputs that state in float32."""
    names = "k.past.0", "k.past.1", "k.new.0"
    past, before, new = (helper.make_tensor_value_info(name, kind, SHAPE) for name in names)
    seen = helper.make_tensor_value_info("seen", TensorProto.FLOAT, SHAPE)
    nodes = [
        helper.make_node("Cast", ["k.past.0"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["seen", "one"], ["larger"]),
        helper.make_node("Cast", ["larger"], ["k.new.0"], to=kind),
        helper.make_node("Identity", ["k.past.1"], ["unused"]),
    ]
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    graph = helper.make_graph(nodes, "g", [past, before], [new, seen], [one])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def seen(graph, runs):
    """Return the states that a graph reads in this many runs from zero, for two passes."""
    state, ring = State([graph], SIZES), Ring(graph, {}, SEEN, 2)
    states = []
    for _ in range(2):
        state.clear()
        for _ in range(runs):
            if ring.full:
                states.append(ring.collect()["seen"].max())
            ring.submit({}, state.advance(graph))
        while len(ring):
            states.append(ring.collect()["seen"].max())
    ring.close()
    nbytes = state.nbytes
    state.close()
    state.close()
    return states, nbytes


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "BFLOAT16"])
def test_a_state_of_any_precision_is_cleared_and_stepped_however_late_the_device_is(tmp_path, kind):
    path = write(tmp_path / "g.onnx", getattr(TensorProto, kind))
    expected = [0, 0, 1, 1, 2] * 2, 3 * 12 * (4 if kind == "FLOAT" else 2)
    assert seen(GraphAtOnce(path, 1), 5) == expected
    graph = OnnxRuntimeGraph(path, 1)
    for seed in range(40):
        device = HostDevice(seed)
        assert seen(LateGraph(graph, device), 5) == expected
        assert device.in_use == 0


def test_memory_that_is_short_for_a_state_is_all_given_back(tmp_path):
    device = HostDevice(memory=2 * 48)
    with pytest.raises(MemoryShortError):
        State([LateGraph(OnnxRuntimeGraph(write(tmp_path / "g.onnx"), 1), device)], SIZES)
    assert device.in_use == 0


@pytest.mark.parametrize("seed", range(20))
def test_what_is_put_there_is_there(tmp_path, seed):
    device = HostDevice(seed)
    resident = Resident(LateGraph(OnnxRuntimeGraph(write(tmp_path / "g.onnx"), 1), device))
    values = np.arange(12, dtype=np.int64).reshape(3, 4).T  # not in C order
    bound = resident.upload(values)
    stored = bound.memory.array.view(bound.spec.dtype).reshape(bound.spec.shape)
    np.testing.assert_array_equal(stored, values)
    assert device.in_use == resident.nbytes == values.nbytes
    resident.close()
    assert device.in_use == 0


def test_memory_that_the_host_has_not_is_said():
    with pytest.raises(MemoryShortError, match="this machine has no"):
        HostAtOnce().memory(1 << 60)
