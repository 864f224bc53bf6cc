"""PyTorch's `.pth` without PyTorch: tensors are read, nothing else in the file is ever run.

Format: a zip of `NAME/data.pkl`, a pickle whose tensors point to `NAME/data/KEY`, the raw numbers (PyTorch's serialisation notes).
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

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError
from upres.export.families.architecture import Tensors

NESTS = ("params_ema", "params")
"""Where Real-ESRGAN keeps the state dict, the better one first; else it is the whole file."""


@dataclass(frozen=True, slots=True)
class _StorageType:
    dtype: str


class _Tensor(NamedTuple):
    """What a pickled tensor becomes: a tuple, so that no later instruction of the pickle can change the array in it."""

    values: NDArray[Any]


STORAGES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bf16"}


def read(path: Path) -> Tensors:
    """The tensors of a state dict: float16 or float32; bfloat16 becomes float32.

    Raises ModelError where the file is damaged, in the format before PyTorch 1.6, or asks for anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            loaded = _Unpickler(archive).load()
    except zipfile.BadZipFile as error:
        hint = "if it was saved by PyTorch before 1.6, load it and save it again with a newer one"
        raise ModelError(f"{path} is not a zip of PyTorch's ({error}); {hint}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # A pickle can fail in any way; none of them is worth telling apart.
        raise ModelError(f"{path} is not a readable .pth: {type(error).__name__}: {error}") from error
    for nest in NESTS:
        if isinstance(loaded, dict) and isinstance(loaded.get(nest), dict):
            loaded = loaded[nest]
    if not isinstance(loaded, dict) or not all(isinstance(value, _Tensor) for value in loaded.values()):
        raise ModelError(f"{path} does not hold a state dict: tensors by name, alone or under {' or '.join(NESTS)}")
    return {str(name): tensor.values for name, tensor in loaded.items()}


class _Unpickler(pickle.Unpickler):
    """Knows exactly the names that a state dict needs; any other name ends the reading."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ModelError("its zip is compressed, which PyTorch's are not")
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
            return _StorageType(STORAGES[name])  # type: ignore[return-value]  # only ever handed back to persistent_load
        raise ModelError(f"it asks for {module}.{name}; only tensors are read, nothing in a file is run")

    def persistent_load(self, pid: object) -> NDArray[Any]:
        match pid:
            case ("storage", _StorageType() as storage, str() as key, _, int() as count):
                return self._storage(storage, key, count)
        raise ModelError(f"it points to {pid!r}, which is not a storage of float32, float16 or bfloat16")

    def _storage(self, storage: _StorageType, key: str, count: int) -> NDArray[Any]:
        data = self._archive.read(f"{self._root}data/{key}")
        if storage.dtype == "bf16":
            values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(data, storage.dtype)
        if len(values) != count:
            raise ModelError(f"storage {key} has {len(values)} numbers, {count} announced")
        return values


def _rebuild(storage: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> _Tensor:
    """A tensor over a storage. Only rows in order, as state dicts have them, so that nothing outside can be reached."""
    contiguous = tuple(prod(size[axis + 1 :]) for axis in range(len(size)))
    if stride != contiguous or min((offset, *size)) < 0 or offset + prod(size) > len(storage):
        raise ModelError(
            f"a tensor of {size} with strides {stride} from {offset} does not lie in a storage of {len(storage)}"
        )
    return _Tensor(storage[offset : offset + prod(size)].reshape(size))
