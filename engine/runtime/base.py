"""Protocols of runtimes and graphs: load a graph, run tensors through it. Independent of any runtime, of frames and of models."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]
DeviceKind = Literal["cpu", "cuda", "vulkan"]


class Graph(Protocol):
    """A graph loaded on a device.

    report: runtime, version, device and effective precision, for display.
    memory_factor: measured memory relative to that of ONNX Runtime on a CPU, for which manifests state bytes_per_pixel.
    """

    @property
    def report(self) -> str: ...  # noqa: D102
    @property
    def memory_factor(self) -> float: ...  # noqa: D102

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once. Return the outputs by name; the caller owns them."""
        ...


class Runtime(Protocol):
    """A way to run graphs on one device. To add one, write a module with such a class and register it as an entry point.

    name: as users choose it. device: where its graphs run. preference: if no runtime is named, the available one with the highest
    preference is used; runtimes with 0 are only used by name.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> DeviceKind: ...  # noqa: D102
    @property
    def preference(self) -> int: ...  # noqa: D102

    def unavailable(self) -> str | None:
        """Return why graphs cannot run on this machine, and what to do about it; None if they can."""
        ...

    def precisions(self) -> tuple[str, ...]:
        """Return the precisions that this machine supports, fastest first: fp32, bf16, fp16, int8."""
        ...

    def load(self, path: Path, precision: str) -> Graph:
        """Load a graph to run in one of `precisions`. Raises ModelError if it cannot be loaded.

        The file may be deleted once this returns, as it is for a graph whose frames are uint16.
        """
        ...


def cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def contiguous(feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy arrays that are not in C order, which runtimes require."""
    return {name: np.ascontiguousarray(value) for name, value in feeds.items()}
