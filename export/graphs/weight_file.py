"""External data file that several ONNX graphs share."""

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from upres.engine.graphs.onnx_pb2 import TensorProto

from .writer import Array

ALIGNMENT = 4096  # so that a runtime can map a tensor straight from the file


class WeightFile:
    """A file of tensors, in which equal tensors are stored once. No tensor is kept in memory.

    The file appears under its name only when it is finished: a session that has mapped an older file keeps using it, and an
    export that fails leaves an older file unchanged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shared: dict[tuple[str, str], TensorProto] = {}
        self._unfinished = path.with_name(f"{path.name}.part")
        self._file = self._unfinished.open("wb")
        self._places: dict[str, tuple[int, int]] = {}

    def add(self, array: Array, digest: str) -> tuple[int, int]:
        """Return offset and length in bytes of a tensor in the file; the tensor is written unless its SHA-256 is already there."""
        if digest not in self._places:
            self._file.write(bytes(-self._file.tell() % ALIGNMENT))
            self._places[digest] = (self._file.tell(), array.nbytes)
            self._file.write(bytes_of(array))
        return self._places[digest]

    def finish(self) -> str:
        """Rename the file to its name; returns the SHA-256 over the SHA-256 of every tensor in it, in order."""
        self._file.close()
        self._unfinished.replace(self.path)
        return hashlib.sha256("".join(self._places).encode()).hexdigest()

    def close(self) -> None:
        """Close the file, and delete it if it was not finished."""
        with suppress(OSError):  # for example a full disk: unwritten data is no longer needed
            self._file.close()
        self._unfinished.unlink(missing_ok=True)


def bytes_of(array: Array) -> memoryview:
    """Return the bytes of a contiguous array without copying."""
    return array.reshape(-1).view(np.uint8).data
