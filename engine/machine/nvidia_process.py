"""Process that queries NVIDIA's driver through its C libraries only, and prints the result as a line of JSON."""

import ctypes
import json
import os
import sys
from typing import Any

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
LIBRARIES = {"nt": ("nvcuda.dll", "nvml.dll")}.get(os.name, ("libcuda.so.1", "libnvidia-ml.so.1"))
NO_DRIVER = f"no driver ({LIBRARIES[0]} is missing)"


def main() -> None:
    """Print driver, CUDA and GPUs, or the problem."""
    cuda, management = (library(name) for name in LIBRARIES)
    result = {"problem": NO_DRIVER} if cuda is None else devices(cuda)
    if management is not None and (version := driver_version(management)):
        result["driver"] = version
    sys.stdout.write(json.dumps(result) + "\n")


def devices(cuda: Any) -> dict[str, Any]:  # noqa: ANN401 - a C library has no types
    """Query libcuda for its version and every device: name, compute capability and bytes of memory."""
    if code := cuda.cuInit(0):
        return {"problem": f"the driver does not start: {_error(cuda, code)}"}
    number, gpus = ctypes.c_int(), []
    cuda.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    cuda.cuDeviceGetCount(ctypes.byref(number))
    for index in range(number.value):
        device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetName(name, len(name), device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        capability = []
        for attribute in (MAJOR, MINOR):
            value = ctypes.c_int()
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            capability.append(value.value)
        gpus.append({"name": name.value.decode(), "capability": capability, "memory": memory.value})
    return {"cuda": version, "gpus": gpus}


def driver_version(management: Any) -> str | None:  # noqa: ANN401
    """Query NVML for the driver's own version; None if it does not report it."""
    version = ctypes.create_string_buffer(96)
    if management.nvmlInit_v2() or management.nvmlSystemGetDriverVersion(version, len(version)):
        return None
    return version.value.decode()


def _error(cuda: Any, code: int) -> str:  # noqa: ANN401
    name = ctypes.c_char_p()
    cuda.cuGetErrorName(code, ctypes.byref(name))
    return name.value.decode() if name.value else f"error {code}"


def library(name: str) -> Any:  # noqa: ANN401
    """Load a C library; None if it is missing."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


if __name__ == "__main__":
    main()
