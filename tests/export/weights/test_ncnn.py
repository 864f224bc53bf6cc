import numpy as np
import pytest
from small_networks import SMALL, tensors, write_srvgg

from upres.engine.core.errors import ModelError
from upres.export.weights import ncnn


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_reads_what_was_written(tmp_path, dtype):
    written = tensors(SMALL, dtype=dtype)
    arrays = ncnn.read(write_srvgg(tmp_path, SMALL, written))
    for array, expected in zip(arrays, written.values(), strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_a_table_of_256_values_is_looked_up(tmp_path):
    param, binary = tmp_path / "t.param", tmp_path / "t.bin"
    param.write_text("7767517\n1 1\nConvolution c 1 1 a b 0=1 1=3 5=1 6=27\n")
    table = np.arange(256, dtype="<f4") / 7
    indices = np.arange(100, 127, dtype="u1")
    binary.write_bytes(np.uint32(1).tobytes() + table.tobytes() + indices.tobytes() + b"\0" + np.float32(5).tobytes())
    weight, bias = ncnn.read(param)
    np.testing.assert_array_equal(weight.ravel(), table[100:127])
    assert bias == [5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "is truncated within 6"),
        (lambda data: data + b"\0\0", "2 bytes more"),
        (lambda data: np.uint32(0x000D4B38).tobytes() + data[4:], "stored as int8"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(tmp_path, change, message):
    param = write_srvgg(tmp_path, SMALL, tensors(SMALL))
    binary = param.with_suffix(".bin")
    binary.write_bytes(change(binary.read_bytes()))
    with pytest.raises(ModelError, match=message):
        ncnn.read(param)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line must be 7767517"),
        ("7767517\n", "not `type name inputs outputs"),
        ("7767517\n1 1\nInput in\n", "not `type name inputs outputs"),
        ("7767517\n3 3\nLSTM l 0 1 a\nGRU g 0 1 b\n", "its header states 3 layers, but it has 2; .*: GRU, LSTM"),
        ("7767517\n1 1\nConvolution c 1 1 a b 0=4 1=3 6=30\n", "not those of a convolution with a bias"),
        ("7767517\n1 1\nConvolution c 1 1 a b 0=1 1=3 5=1 6=-27\n", "the settings of c ask for -27 numbers"),
        ("7767517\n1 1\nPReLU p 1 1 a b 0=-1\n", "the settings of p ask for -1 numbers"),
        ("7767517\n1 1\nPReLU p 1 1 a b 0=nan\n", "p has a setting that is not finite"),
    ],
)
def test_a_param_that_is_none_is_refused(tmp_path, text, message):
    param = tmp_path / "x.param"
    param.write_text(text)
    param.with_suffix(".bin").write_bytes(bytes(4))
    with pytest.raises(ModelError, match=message):
        ncnn.read(param)


def test_a_param_without_its_bin_is_refused(tmp_path):
    param = write_srvgg(tmp_path, SMALL, tensors(SMALL))
    param.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"needs its weights in .*next to it"):
        ncnn.read(param)
