"""ncnn on Vulkan, for networks on frames: GPUs of AMD, Intel, Apple and others. Run on Mesa's software Vulkan, never on a GPU."""

import json
import sys
from functools import cache
from pathlib import Path

from upres.engine.machine import child

from .base import DeviceKind, cpus
from .ncnn_cpu import Ncnn, NcnnGraph

SOFTWARE = 3
"""The type of a device that is the CPU after all: ncnn's numbers are 0 to 2 for discrete, integrated and virtual GPUs."""


class NcnnVulkan:
    """The GPU that ncnn prefers of those that Vulkan shows, in float32; the loader's VK_DRIVER_FILES shows it fewer drivers."""

    name = "ncnn-vulkan"
    device: DeviceKind = "vulkan"
    preference = 0

    def unavailable(self) -> str | None:
        """Say why graphs cannot run here, and what to do about it."""
        return Ncnn().unavailable() or devices_missing()

    def precisions(self) -> tuple[str, ...]:
        """Name the precisions that this machine computes in, fastest first."""
        return ("fp32",)

    def load(self, path: Path, precision: str) -> NcnnGraph:
        """Load a graph; ModelError for all but those that take a frame to a frame."""
        return NcnnGraph(path, cpus(), vulkan=True)


@cache
def devices_missing() -> str | None:
    """Say why Vulkan has no GPU; None where it has one. Asked once, in a process of its own, for a broken driver may crash."""
    found = child.ask(__name__)
    if problem := found.get("problem"):
        return f"Vulkan does not answer: {problem}"
    devices: dict[str, int] = found["devices"]
    if not devices:
        return "no driver with Vulkan is here; install the GPU's (on Debian, of AMD and Intel: mesa-vulkan-drivers)"
    if set(devices.values()) == {SOFTWARE}:
        return f"Vulkan has the CPU alone ({', '.join(devices)}), which other runtimes use better; install the GPU's driver"
    return None


def main() -> None:
    """Print the names and types of the devices that Vulkan shows, as a line of JSON."""
    import ncnn

    found = [ncnn.get_gpu_info(index) for index in range(ncnn.get_gpu_count())]
    sys.stdout.write(json.dumps({"devices": {each.device_name(): each.type() for each in found}}) + "\n")


if __name__ == "__main__":
    main()
