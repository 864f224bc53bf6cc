"""ONNX Runtime's CUDA provider from a library, for an ONNX Runtime that was built without it."""

import ctypes
import sys
from pathlib import Path

import onnxruntime

LIBRARIES = ("cublasLt", "cublas", "curand", "cudart", "nvrtc", "cudnn")  # of NVIDIA's packages, which PyTorch requires


def register(library: Path) -> None:
    """Load NVIDIA's libraries from their packages, and register the provider."""
    for name in LIBRARIES:
        for folder in map(Path, sys.path):
            for library_file in sorted(folder.glob(f"nvidia/*/lib/lib{name}.so.*")):
                ctypes.CDLL(str(library_file), mode=ctypes.RTLD_GLOBAL)
    onnxruntime.register_execution_provider_library("CUDAExecutionProvider", str(library.absolute()))
