"""What every runtime keeps to: load a graph, run tensors through it. Knows no runtime by name, no frames and no models."""

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

    report: runtime, version, device and the precision that really runs, for people.
    memory_factor: measured memory over that of ONNX Runtime on a CPU, which a manifest's bytes a pixel stand for.
    """

    @property
    def report(self) -> str: ...  # noqa: D102
    @property
    def memory_factor(self) -> float: ...  # noqa: D102

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once: input tensors by name in, output tensors by name out, owned by the caller."""
        ...


class Runtime(Protocol):
    """A way to run graphs on one device. To add one: a module with such a class, and its line among the entry points.

    name: as users choose it. device: where its graphs run. preference: of all that are available the highest is taken
    when none is named; 0 is only taken by name.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> DeviceKind: ...  # noqa: D102
    @property
    def preference(self) -> int: ...  # noqa: D102

    def unavailable(self) -> str | None:
        """Say why graphs cannot run here, and what to do about it; None where they can."""
        ...

    def precisions(self) -> tuple[str, ...]:
        """Name the precisions that this machine computes in, fastest first: fp32, bf16, fp16, int8."""
        ...

    def load(self, path: Path, precision: str) -> Graph:
        """Load a graph to be computed in one of `precisions`; ModelError where it cannot be loaded.

        The file of a graph whose frames are uint16 is gone once this returns.
        """
        ...


def cpus() -> int:
    """Count the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def contiguous(feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy what is not laid out in C order, as runtimes need it."""
    return {name: np.ascontiguousarray(value) for name, value in feeds.items()}
