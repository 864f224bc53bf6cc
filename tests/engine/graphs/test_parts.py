"""Graphs built and parsed with ONNX's schema only, compared with the `onnx` package: same bytes, and valid by its checker."""

import ml_dtypes  # noqa: F401 - adds bfloat16 to NumPy
import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from upres.engine.color.yuv_graph import ACROSS, LUMA, from_rgb, to_rgb
from upres.engine.core.frame import Color, Layout
from upres.engine.graphs import onnx_pb2, parts
from upres.engine.models.catalog import NETWORKS
from upres.engine.models.flashvsr.networks import FIRST, NEXT
from upres.engine.models.flashvsr.tokens import cutting
from upres.engine.models.manifest import find
from upres.engine.runtime.half import in_precision
from upres.engine.runtime.ort_prelu import split
from upres.engine.runtime.sixteen_bits import sixteen_bits

SHIPPED = [name for name, network in NETWORKS.items() if network.ships]
ATTRIBUTES = {"mode": "edge", "group": 3, "alpha": -0.6, "pads": [0, 1, 2], "flag": True}


def test_a_graph_has_the_bytes_that_onnx_gives_it():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = parts.graph(
        "made",
        [parts.node("Pad", ["x", "", "c"], ["y"], "pad", **ATTRIBUTES), parts.node("Relu", ["y"], ["z"])],
        [parts.value("x", TensorProto.FLOAT, [1, "height", 3])],
        [parts.value("z", TensorProto.UINT8, [])],
        [parts.tensor(values, "c")],
    )
    reference = helper.make_graph(
        [helper.make_node("Pad", ["x", "", "c"], ["y"], "pad", **ATTRIBUTES), helper.make_node("Relu", ["y"], ["z"])],
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "height", 3])],
        [helper.make_tensor_value_info("z", TensorProto.UINT8, [])],
        [numpy_helper.from_array(values, "c")],
    )
    model = helper.make_model(
        reference, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="upres"
    )
    message = parts.model(graph, opset=17, ir_version=8, producer="upres")
    assert parts.written(message) == model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", parts.TYPES)
def test_a_constant_of_every_type_is_written_and_read_as_by_onnx(name):
    values = (np.arange(12).reshape(3, 4) % 2).astype(name)
    proto = parts.tensor(values, "c")
    assert proto.SerializeToString() == numpy_helper.from_array(values, "c").SerializeToString()
    restored = parts.array(proto)
    assert restored.dtype == values.dtype and np.array_equal(restored, values)
    scalar = parts.array(parts.tensor(np.asarray(values[1, 1]), "s"))
    assert scalar.shape == () and scalar == values[1, 1]


@pytest.mark.parametrize("name", parts.TYPES)
def test_a_constant_that_another_program_wrote_as_a_list_is_read(name):
    values = (np.arange(12).reshape(3, 4) % 2).astype(name)
    listed = helper.make_tensor("c", parts.TYPES[name], (3, 4), values.ravel())
    assert not listed.HasField("raw_data")
    restored = parts.array(onnx_pb2.TensorProto.FromString(listed.SerializeToString()))
    assert restored.dtype == values.dtype and np.array_equal(restored, values)


def test_a_constant_of_a_type_that_is_not_read_is_named():
    text = helper.make_tensor("words", TensorProto.STRING, (1,), [b"x"])
    with pytest.raises(ValueError, match="words"):
        parts.array(onnx_pb2.TensorProto.FromString(text.SerializeToString()))


def test_attributes_are_read_as_they_were_written():
    node = parts.node("Any", [], [], **ATTRIBUTES)
    restored = parts.attributes(node)
    assert restored.pop("alpha") == pytest.approx(-0.6)
    assert restored == {"mode": b"edge", "group": 3, "pads": [0, 1, 2], "flag": 1}


def test_a_constant_whose_values_lie_in_another_file_is_named():
    far = onnx_pb2.TensorProto(name="far", data_type=1, dims=[2], data_location=onnx_pb2.TensorProto.EXTERNAL)
    with pytest.raises(ValueError, match="the values of far are in an external file"):
        parts.array(far)


def test_what_is_no_graph_is_refused(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(DecodeError):
        parts.read(tmp_path / "no.onnx")


def test_the_schema_is_that_of_onnx():
    """Return every field of every message: its number, type, cardinality and message type."""
    reference = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name
    for name, message in onnx_pb2.DESCRIPTOR.message_types_by_name.items():
        assert {*_fields(message)} <= {*_fields(reference[name])}, name


def _fields(message):
    inner = [field for each in message.nested_types for field in _fields(each)]
    own = [
        (
            message.name,
            field.name,
            field.number,
            field.type,
            field.is_repeated,
            field.message_type and field.message_type.name,
        )
        for field in message.fields
    ]
    return own + inner


@pytest.mark.parametrize("network", SHIPPED)
def test_networks_that_ship_are_sound_however_they_are_rewritten(network, tmp_path):
    path, deep = find(network)[0], tmp_path / "deep.onnx"
    deep.write_bytes(sixteen_bits(path))
    for graph in (path, deep):
        for written in (split(parts.read(graph)), in_precision(graph, "fp16")):
            onnx.checker.check_model(written, full_check=True)


@pytest.mark.parametrize("matrix", LUMA)
def test_conversions_of_colors_are_sound(matrix):
    for scope in ("tv", "pc"):
        color = Color(matrix, scope, "bt709", "bt709")
        for graph in (from_rgb(color), *(to_rgb(Layout(color, siting)) for siting in ACROSS)):
            onnx.checker.check_model(graph, full_check=True)


@pytest.mark.parametrize("count", [FIRST, NEXT])
def test_cuts_of_tokens_are_sound(count):
    onnx.checker.check_model(cutting(count), full_check=True)
