"""ncnn on Vulkan, for networks on frames: GPUs of AMD, Intel, Apple and others. Run on Mesa's software Vulkan, never on a GPU."""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

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
def asked() -> dict[str, Any]:
    """Ask once what Vulkan shows, in a process of its own, for a broken driver may crash; as `main` prints it, or a "problem"."""
    return child.ask(__name__)


def drivers() -> list[str]:
    """Name the devices in ncnn's order, each with the version and build of its driver; empty where Vulkan does not answer."""
    named: list[str] = asked().get("drivers", [])
    return named


def devices_missing() -> str | None:
    """Say why Vulkan has no GPU; None where it has one."""
    found = asked()
    if problem := found.get("problem"):
        return f"Vulkan does not answer: {problem}"
    devices: dict[str, int] = found["devices"]
    if not devices:
        return "no driver with Vulkan is here; install the GPU's (on Debian, of AMD and Intel: mesa-vulkan-drivers)"
    if set(devices.values()) == {SOFTWARE}:
        return f"Vulkan has the CPU alone ({', '.join(devices)}), which other runtimes use better; install the GPU's driver"
    return None


def main() -> None:
    """Print the names, types and drivers of the devices that Vulkan shows, as a line of JSON."""
    import ncnn

    found = [ncnn.get_gpu_info(index) for index in range(ncnn.get_gpu_count())]
    types = {each.device_name(): each.type() for each in found}
    builds = [
        f"{each.device_name()}, {each.driver_version()}, {bytes(each.pipeline_cache_uuid()).hex()}" for each in found
    ]
    sys.stdout.write(json.dumps({"devices": types, "drivers": builds}) + "\n")


if __name__ == "__main__":
    main()
