"""Reader of PyTorch's `.pth` without PyTorch: only tensors are read, and no code in the file is executed.

Format: a zip with `NAME/data.pkl`, a pickle whose tensors refer to raw numbers in `NAME/data/KEY` (PyTorch's serialization notes).
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from upres.engine.core.errors import ModelError

from .tensors import Array, Tensors

NESTS = ("params_ema", "params")
"""Keys under which Real-ESRGAN stores the state dict, preferred first; without them, the whole file is a state dict."""


@dataclass(frozen=True, slots=True)
class _StorageType:
    dtype: np.dtype[Any]


class _Tensor(NamedTuple):
    """An unpickled tensor, as a tuple so that no later instruction of the pickle can change its array."""

    values: Array


STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
}


def read(path: Path) -> Tensors:
    """Read the tensors of a state dict as float16 or float32; bfloat16 is converted to float32.

    Raises ModelError if the file is damaged, in the format before PyTorch 1.6, or contains anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            loaded = _Unpickler(archive).load()
    except zipfile.BadZipFile as error:
        hint = "if it was saved by PyTorch before 1.6, load it and save it again with a newer one"
        raise ModelError(f"{path} is not a zip file as PyTorch writes it ({error}); {hint}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # A pickle can raise anything.
        raise ModelError(f"{path} is not a readable .pth: {type(error).__name__}: {error}") from error
    for nest in NESTS:
        if isinstance(loaded, dict) and isinstance(loaded.get(nest), dict):
            loaded = loaded[nest]
    if not isinstance(loaded, dict) or not all(isinstance(value, _Tensor) for value in loaded.values()):
        raise ModelError(
            f"{path} contains no state dict: tensors by name, at the top level or under {' or '.join(NESTS)}"
        )
    return {str(name): tensor.values for name, tensor in loaded.items()}


class _Unpickler(pickle.Unpickler):
    """An unpickler that resolves only the names that a state dict needs, and rejects all others."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ModelError("its zip is compressed, unlike PyTorch's")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ModelError(f"{len(pickles)} data.pkl in the zip, expected one")
        self._archive = archive
        self._root = pickles[0].removesuffix("data.pkl")
        if f"{self._root}byteorder" in archive.namelist() and archive.read(f"{self._root}byteorder") != b"little":
            raise ModelError("its numbers are big-endian; save it again on a little-endian machine")
        super().__init__(io.BytesIO(archive.read(pickles[0])))

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in STORAGES:
            return _StorageType(STORAGES[name])  # type: ignore[return-value]  # only passed back to persistent_load
        raise ModelError(f"it refers to {module}.{name}; only tensors are read, and no code in a file is executed")

    def persistent_load(self, pid: object) -> Array:
        match pid:
            case ("storage", _StorageType() as storage, str() as key, _, int() as count):
                return self._storage(storage, key, count)
        raise ModelError(f"it refers to {pid!r}, which is not a storage of float32, float16 or bfloat16")

    def _storage(self, storage: _StorageType, key: str, count: int) -> Array:
        data = self._archive.read(f"{self._root}data/{key}")
        values = np.frombuffer(data, storage.dtype)
        if len(values) != count:
            raise ModelError(f"storage {key} has {len(values)} numbers, expected {count}")
        return values.astype(np.float32) if storage.dtype == ml_dtypes.bfloat16 else values


def _rebuild(storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> _Tensor:
    """Return a tensor over a storage; only contiguous tensors are accepted, so that they cannot reach outside it."""
    contiguous = tuple(prod(size[axis + 1 :]) for axis in range(len(size)))
    if stride != contiguous or min((offset, *size)) < 0 or offset + prod(size) > len(storage):
        raise ModelError(
            f"a tensor of {size} with strides {stride} at {offset} does not fit in its storage of {len(storage)} numbers"
        )
    return _Tensor(storage[offset : offset + prod(size)].reshape(size))
