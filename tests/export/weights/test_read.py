"""Reading of `.safetensors`, and detection of formats."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_networks import SMALL, tensors

from upres.engine.core.errors import ModelError
from upres.export.weights.read import read, sha256


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_reads_what_the_library_wrote(tmp_path, dtype):
    written = tensors(SMALL, dtype=dtype)
    save_file(written, tmp_path / "x.safetensors", {"format": "pt"})
    weights = read(tmp_path / "x.safetensors")
    assert (weights.sha256, weights.param) == (sha256(tmp_path / "x.safetensors"), None)
    assert weights.tensors.keys() == written.keys()
    for name in written:
        np.testing.assert_array_equal(weights.tensors[name], written[name])


def test_bfloat16_becomes_float32(tmp_path):
    path = write(tmp_path, {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"\xc0\x3f\x00\xc0")
    tensor = read(path).tensors["x"]
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, [1.5, -2])


def test_tensors_that_are_no_floats_are_all_named(tmp_path):
    save_file({"a": np.zeros(1, np.int64), "b": np.zeros(1, np.float64)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"of types other than float32, float16, bfloat16: a \(int64\), b \(float64\)"):
        read(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "place",
    [
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]},
    ],
    ids=str,
)
def test_tensors_that_cannot_be_are_refused(tmp_path, place):
    with pytest.raises(ModelError, match=r"made\.safetensors is not a readable \.safetensors"):
        read(write(tmp_path, {"a": place}, b"\0" * 8))


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 20, b"\x02" + b"\0" * 7 + b"[]", b"\x08" + b"\0" * 7 + b'{"a": 1}'], ids=str
)
def test_what_is_not_the_format_is_refused(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"not a readable \.safetensors"):
        read(path)


def test_a_file_of_no_known_format_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(ModelError, match=r"expected \.param with \.bin \(ncnn\), \.pth or \.safetensors"):
        read(tmp_path / "x.ckpt")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".param"])
def test_a_file_that_is_not_there_is_named(tmp_path, suffix):
    with pytest.raises(ModelError, match=rf"none{suffix}"):
        read(tmp_path / f"none{suffix}")


def write(folder, header, body):
    text = json.dumps(header).encode()
    path = folder / "made.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path
