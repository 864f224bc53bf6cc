"""Which of the packages that graphs and GPUs need are installed, and those that must not be together."""

from collections.abc import Sequence
from importlib.metadata import distributions

RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino", "ncnn", "onnxruntime-ep-nv-tensorrt-rtx-cu13")
NVIDIA = (
    "cuda-core",
    "cuda-bindings",
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-cu12",
    "tensorrt-lean-cu13",
    "tensorrt-rtx",
)
MEDIA = ("av", "numpy", "torch")
ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def versions(names: Sequence[str] = (*RUNTIMES, *NVIDIA, *MEDIA), path: Sequence[str] | None = None) -> dict[str, str]:
    """Read the versions of those that are installed, by name. path: the folders to look in, by default Python's own."""
    found: dict[str, str] = {}
    for each in distributions() if path is None else distributions(path=list(path)):
        name = (each.metadata["Name"] or "").lower().replace("_", "-")
        if name in names:
            found.setdefault(name, each.version)  # the first on the path is the one that is imported
    return found


def both_onnx_runtimes(installed: dict[str, str]) -> bool:
    """Tell whether both wheels of ONNX Runtime are here: they hold the same files, and the last one that came has won."""
    return all(name in installed for name in ONNX_RUNTIMES)
