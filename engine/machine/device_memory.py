"""Free memory of a GPU, queried from the driver."""

import ctypes
import os
from typing import Any

from rich.filesize import decimal

from upres.engine.core.errors import ModelError

LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"


def free(device: int = 0) -> int:
    """Return the free memory of a GPU in bytes. Raises ModelError if the driver does not report it."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise ModelError(f"no NVIDIA driver is installed: {error}") from error
    return _free(cuda, device)


def no_room(needed: int, free: int) -> str:
    """Return the message that a GPU lacks the memory for a session."""
    return (
        f"this needs about {decimal(needed)} of the GPU's memory, and {decimal(free)} of it were free when the model was "
        "loaded; choose a smaller scale or a smaller source, or end what else runs on the GPU"
    )


def _free(cuda: Any, device: int) -> int:  # noqa: ANN401 - a C library has no types
    """Query the primary context, which everything in this process shares, so that the query itself needs no memory."""
    handle, context, unused, total = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    code = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(handle), device)
        or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle)
        or cuda.cuCtxPushCurrent_v2(context)
        or cuda.cuMemGetInfo_v2(ctypes.byref(unused), ctypes.byref(total))
        or cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
    )
    if code:
        raise ModelError(f"the NVIDIA driver does not report how much memory is free: error {code}")
    return unused.value
