import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_networks import SMALL, tensors

from upres.engine.core.errors import ModelError
from upres.export.weights.read import safetensors_file


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_reads_what_the_library_wrote(tmp_path, dtype):
    written = tensors(SMALL, dtype=dtype)
    save_file(written, tmp_path / "x.safetensors", {"format": "pt"})
    found = safetensors_file.read(tmp_path / "x.safetensors")
    assert found.keys() == written.keys()
    for name in written:
        np.testing.assert_array_equal(found[name], written[name])


def test_bfloat16_becomes_float32(tmp_path):
    path = write(tmp_path, {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"\xc0\x3f\x00\xc0")
    np.testing.assert_array_equal(safetensors_file.read(path)["x"], np.float32([1.5, -2]))


@pytest.mark.parametrize(
    "place",
    [
        {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
    ],
    ids=str,
)
def test_tensors_that_cannot_be_are_named(tmp_path, place):
    with pytest.raises(ModelError, match=r"cannot be: a .*; b .*; expected F32, F16, BF16"):
        safetensors_file.read(write(tmp_path, {"a": place, "b": place}, b"\0" * 8))


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 20, b"\x02" + b"\0" * 7 + b"[]", b"\x08" + b"\0" * 7 + b'{"a": 1}'], ids=str
)
def test_what_is_not_the_format_is_refused(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"not a readable \.safetensors"):
        safetensors_file.read(path)


def write(folder, header, body):
    text = json.dumps(header).encode()
    path = folder / "made.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path
