import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from paths import DATA

from upres.engine.core.errors import ModelError
from upres.export.weights import pth

SAVED = DATA / "saved_by_torch.pth"
"""torch.save({"params": …, "params_ema": {"half": [[0, 1, 2], [3, 4, 5]] / 2 as float16, "real": …, "brain": …}})"""


def test_reads_what_torch_saved():
    tensors = pth.read(SAVED)
    np.testing.assert_array_equal(tensors["half"], np.arange(6, dtype=np.float16).reshape(2, 3) / 2)
    np.testing.assert_array_equal(tensors["real"], np.float32([-1, 0.1]))
    np.testing.assert_array_equal(tensors["brain"], np.float32([1.5, -2]))
    assert {name: str(tensor.dtype) for name, tensor in tensors.items()} == {
        "half": "float16",
        "real": "float32",
        "brain": "float32",
    }


class Runs:
    """A pickle that would call a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load])
def test_nothing_in_a_file_is_run(tmp_path, function):
    path = archive(tmp_path, pickle.dumps({"params": Runs(function, "echo")}))
    with pytest.raises(ModelError, match="no code in a file is executed"):
        pth.read(path)


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        ([1, 2], "contains no state dict"),
        (OrderedDict(params=OrderedDict(a=1)), "contains no state dict"),
        ({"params": {}, "params_ema": 3}, None),
    ],
)
def test_only_state_dicts_are_taken(tmp_path, loaded, message):
    path = archive(tmp_path, pickle.dumps(loaded))
    if message is None:
        assert pth.read(path) == {}
    else:
        with pytest.raises(ModelError, match=message):
            pth.read(path)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (3, 3), (3, 1)), (7, (2,), (1,)), (-1, (2,), (1,)), (0, (2, 2), (1, 2)), (0, (-2,), (1,))],
)
def test_a_tensor_cannot_reach_outside_its_storage(offset, size, stride):
    with pytest.raises(ModelError, match="does not fit in its storage of 8"):
        pth._rebuild(np.zeros(8, np.float32), offset, size, stride)


def test_a_storage_must_have_its_numbers(tmp_path):
    with zipfile.ZipFile(SAVED) as saved, zipfile.ZipFile(tmp_path / "cut.pth", "w") as cut:
        for name in saved.namelist():
            cut.writestr(name, saved.read(name)[:4] if "/data/" in name else saved.read(name))
    with pytest.raises(ModelError, match=r"has \d numbers, expected \d"):
        pth.read(tmp_path / "cut.pth")


def test_what_is_no_zip_is_refused(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(ModelError, match=r"before 1\.6"):
        pth.read(path)


@pytest.mark.parametrize(("data", "message"), [(b"", "EOFError"), (b"\x80\x04}\x94Q.", "refers to")])
def test_a_damaged_pickle_is_refused(tmp_path, data, message):
    with pytest.raises(ModelError, match=message):
        pth.read(archive(tmp_path, data))


def test_a_compressed_zip_is_refused(tmp_path):
    """A few compressed bytes could fill the memory."""
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10_000))
    with pytest.raises(ModelError, match="compressed"):
        pth.read(tmp_path / "bomb.pth")


def test_a_pickle_cannot_change_a_tensor():
    """BUILD, the instruction that could change it, has no effect on a tuple."""
    tensor = pth._rebuild(np.zeros(1, np.float32), 0, (1,), (1,))
    assert not hasattr(tensor, "__setstate__")
    assert not hasattr(tensor, "__dict__")


def test_big_endian_numbers_are_refused(tmp_path):
    with pytest.raises(ModelError, match="big-endian"):
        pth.read(archive(tmp_path, pickle.dumps({}), byteorder=b"big"))


def archive(folder, data, **records):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", data)
        for name, content in records.items():
            file.writestr(f"archive/{name}", content)
    path = folder / "made.pth"
    path.write_bytes(buffer.getvalue())
    return path
