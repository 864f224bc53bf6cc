"""NVIDIA's driver and the GPUs that it reports."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from .child import ask

PROBE = f"{__package__}.nvidia_process"
PCI = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"  # the vendor, and the class of graphics and 3D controllers
DRIVER_FILES = Path("/proc/driver/nvidia")


@dataclass(frozen=True, slots=True)
class GPU:
    """One GPU. capability: compute capability, as (9, 0). memory: total bytes; on a Jetson, shared with the CPU."""

    index: int
    name: str
    capability: tuple[int, int]
    memory: int


@dataclass(frozen=True, slots=True)
class Driver:
    """Facts from the driver. version: its own, as 580.65. cuda: the newest supported CUDA, as 13.0. Both None if unknown.

    problem: why no GPU can be used; None if one can. on_bus: whether an NVIDIA GPU is plugged in, regardless of the driver.
    """

    version: str | None
    cuda: str | None
    gpus: tuple[GPU, ...]
    problem: str | None
    on_bus: bool


def driver(probe: str = PROBE) -> Driver:
    """Query the driver in a separate process. Never raises, and waits a bounded time."""
    answer = ask(probe)
    gpus = tuple(
        GPU(index, each["name"], tuple(each["capability"]), each["memory"])
        for index, each in enumerate(answer.get("gpus", []))
    )
    problem = answer.get("problem") or (None if gpus else "the driver shows no GPU")
    return Driver(answer.get("driver"), answer.get("cuda"), gpus, problem, on_bus() or is_jetson())


def on_bus(devices: Path = PCI) -> bool:
    """Report whether an NVIDIA GPU is plugged in; False if that cannot be read."""
    return any(_is(each / "vendor", NVIDIA) and _is(each / "class", DISPLAY) for each in _folders(devices))


def is_jetson() -> bool:
    """Report whether this is a Jetson, whose GPU is not on a PCI bus."""
    return "tegra" in platform.release() or Path("/etc/nv_tegra_release").exists()


def names(files: Path = DRIVER_FILES) -> tuple[str, ...]:
    """Return the names of the GPUs from the kernel's files, without waking the driver. Empty if there are no such files."""
    gpu_names = []
    for folder in sorted(_folders(files / "gpus")):
        rows = _text(folder / "information").splitlines()
        gpu_names += [row.partition(":")[2].strip() for row in rows if row.startswith("Model")]
    if not gpu_names and is_jetson():
        gpu_names = [_text(Path("/proc/device-tree/model")).strip("\0\n") or "Jetson"]
    return tuple(gpu_names)


def visible(files: Path = DRIVER_FILES) -> tuple[str, ...]:
    """Return the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them, without waking the driver."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(map(str, range(len(names(files)))))
    return tuple(name.strip() for name in chosen.split(",") if name.strip())


def kernel_module() -> str | None:
    """Return the version line of the driver's kernel module, without waking it; None if there is none."""
    return next(iter(_text(DRIVER_FILES / "version").splitlines()), None)


def _folders(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


def _is(file: Path, start: str) -> bool:
    return _text(file).startswith(start)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
