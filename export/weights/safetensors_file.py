"""`.safetensors` read with numpy alone.

Format: 8 bytes, little-endian, the length of a JSON header; the header, each tensor's dtype, shape and place; the numbers.
"""

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError
from upres.export.families.architecture import Tensors

DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read(path: Path) -> Tensors:
    """The tensors of the file: float16 or float32; bfloat16 becomes float32. ModelError naming every tensor that is wrong."""
    try:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header: dict[str, dict[str, Any]] = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        places = {name: _place(entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not a readable .safetensors: {error}") from error
    body = memoryview(data)[8 + length :]
    problems = [
        f"{name} ({dtype}, {shape}) lies at {start} to {end} of {len(body)} bytes"
        for name, (dtype, shape, start, end) in places.items()
        if dtype not in DTYPES
        or min((start, *shape)) < 0
        or end > len(body)
        or end - start != prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    ]
    if problems:
        raise ModelError(f"{path} has tensors that cannot be: {'; '.join(problems)}; expected {', '.join(DTYPES)}")
    return {name: _tensor(dtype, shape, body[start:end]) for name, (dtype, shape, start, end) in places.items()}


def _place(entry: dict[str, Any]) -> tuple[str, tuple[int, ...], int, int]:
    start, end = entry["data_offsets"]
    return str(entry["dtype"]), tuple(int(size) for size in entry["shape"]), int(start), int(end)


def _tensor(dtype: str, shape: tuple[int, ...], data: memoryview) -> NDArray[Any]:
    values = np.frombuffer(data, DTYPES[dtype])
    if dtype == "BF16":
        values = (values.astype("<u4") << 16).view("<f4")
    return values.reshape(shape)
