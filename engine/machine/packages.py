"""Installed versions of the packages that graphs and GPUs need, and conflicts between them."""

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
    """Return the versions of those packages that are installed. path: folders to search; Python's own by default."""
    installed: dict[str, str] = {}
    for each in distributions() if path is None else distributions(path=list(path)):
        name = (each.metadata["Name"] or "").lower().replace("_", "-")
        if name in names:
            installed.setdefault(name, each.version)  # the first one on the path is imported
    return installed


def both_onnx_runtimes(installed: dict[str, str]) -> bool:
    """Report whether both wheels of ONNX Runtime are installed: they contain the same files, so the later one won."""
    return all(name in installed for name in ONNX_RUNTIMES)
