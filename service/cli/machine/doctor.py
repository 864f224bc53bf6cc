"""`upres doctor`: report what this machine can run, what is missing, and what to do about it."""

import json as jsonlib
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Annotated

import av
import psutil
import typer

from upres.engine.core.errors import UpresError
from upres.engine.core.text import counted
from upres.engine.machine import nvidia, packages
from upres.engine.machine.cache import cache_folder
from upres.engine.machine.nvidia import Driver
from upres.engine.machine.video_engines import VideoEngine, video_engines
from upres.engine.models import registry
from upres.engine.models.catalog import NETWORKS
from upres.engine.runtime import registry as runtimes
from upres.engine.runtime.base import cpus
from upres.engine.runtime.ort import GPU_INSTALL

REQUIRED_ENCODERS = {"libx264": "H.264", "libx264rgb": "lossless", "libx265": "HEVC", "aac": "AAC"}
CPU_WHEEL = "pip uninstall --yes onnxruntime onnxruntime-gpu; pip install onnxruntime"
DRIVER = "install NVIDIA's driver, 580 or later, and restart"
MIN_CUDA = 13
"""The CUDA version that onnxruntime-gpu and cuda-core are built for; older drivers do not run it."""
CONTAINER = "in a container, start it with `--gpus all` and NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
WHEEL_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0), (12, 1))
"""Compute capabilities that onnxruntime-gpu on PyPI has machine code for, on x86-64 or ARM. It contains no PTX to translate."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact about this machine. remedy: what to do about it, if anything. missing: upres does not work without it."""

    name: str
    state: str
    remedy: str | None = None
    missing: bool = False


def doctor(json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False) -> None:
    """Report what this machine can run, what is missing and how to add it; exits with 1 if something required is missing."""
    all_findings = [*findings(nvidia.driver(), packages.versions(), video_engines()), *_cluster()]
    missing = [finding for finding in all_findings if finding.missing]
    if json:
        typer.echo(jsonlib.dumps([asdict(finding) for finding in all_findings], indent=2))
    else:
        for finding in all_findings:
            typer.secho(f"{finding.name}: {finding.state}", fg="red" if finding.missing else None)
            if finding.remedy:
                typer.echo(f"  -> {finding.remedy}")
        summary = (
            f"missing: {counted(len(missing), 'requirement')} of upres"
            if missing
            else "all requirements of upres are met"
        )
        typer.echo(f"{summary}; runtimes that are not available are for other hardware")
    if missing:
        raise typer.Exit(1)


def findings(driver: Driver, installed: dict[str, str], engines: tuple[VideoEngine, ...]) -> Iterator[Finding]:
    """Yield the findings about this machine. installed: versions of packages by name."""
    yield Finding(
        f"upres {version('upres')}",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {counted(cpus(), 'CPU')}, "
        f"{psutil.virtual_memory().total / 1e9:.1f} GB of memory",
    )
    yield Finding("cache", str(cache_folder()))
    yield from _runtimes()
    yield from _onnx_runtime(installed, driver)
    yield from _gpus(driver)
    yield from _nvidia_packages(installed)
    yield from _media(engines, driver)
    for name, network in NETWORKS.items():
        if network.ships and not registry.is_installed(name):
            yield Finding(f"network {name}", "not in the package", "pip install --force-reinstall upres", missing=True)


def _runtimes() -> Iterator[Finding]:
    usable = False
    for name in runtimes.names():
        if name != runtimes.AUTO:
            reason, state = _state(name)
            usable = usable or reason is None
            yield Finding(f"runtime {name}", reason or state)
    if not usable:
        yield Finding("runtimes", "none is available", CPU_WHEEL, missing=True)


def _state(name: str) -> tuple[str | None, str]:
    """Return why a runtime is unavailable, if it is, and its device and precisions; a broken installation may raise anything."""
    try:
        runtime = runtimes.load(name)
        return runtime.unavailable(), f"available on {runtime.device}, in {' and '.join(runtime.precisions())}"
    except Exception as error:
        return f"broken ({type(error).__name__}: {error})", ""


def _onnx_runtime(installed: dict[str, str], driver: Driver) -> Iterator[Finding]:
    """Report the wheels of ONNX Runtime: two of them contain the same files, which neither pip nor ONNX Runtime reports."""
    wheels = [f"{name} {installed[name]}" for name in packages.ONNX_RUNTIMES if name in installed]
    both = packages.both_onnx_runtimes(installed)
    for_gpus = any(gpu.capability in WHEEL_CAPABILITIES for gpu in driver.gpus)
    remedy: str | None = None
    if both:
        remedy = f"they overwrite each other's files; keep one: {GPU_INSTALL if for_gpus else CPU_WHEEL}"
    elif for_gpus and not {"onnxruntime-gpu", "cuda-core"} <= installed.keys():
        remedy = f"for the runtime cuda: {GPU_INSTALL}"
    state = f"{' and '.join(wheels) or 'not installed'}{', two wheels at once' if both else ''}"
    yield Finding("ONNX Runtime", f"{state}, {_providers()}" if wheels else state, remedy)


def _providers() -> str:
    """List the execution providers that the imported ONNX Runtime was built with; not all of them may start."""
    try:
        import onnxruntime

        names = onnxruntime.get_available_providers()
    except Exception as error:  # an installation with mixed files may raise anything
        return f"cannot be imported ({error})"
    return f"built with {', '.join(name.removesuffix('ExecutionProvider') for name in names)}"


def _gpus(driver: Driver) -> Iterator[Finding]:
    versions = [f"{name} {known}" for name, known in (("driver", driver.version), ("CUDA", driver.cuda)) if known]
    if driver.problem is None:
        old = driver.cuda is not None and int(driver.cuda.split(".")[0]) < MIN_CUDA
        newer = "install JetPack 7.2 or later" if nvidia.is_jetson() else DRIVER
        advice = f"too old for CUDA {MIN_CUDA}, which the GPU runtimes need: {newer}" if old else None
        yield Finding("NVIDIA driver", f"{', '.join(versions)}, {counted(len(driver.gpus), 'GPU')}", advice)
    elif driver.on_bus or driver.version:
        state = f"{driver.problem}, but an NVIDIA GPU is in this machine"
        yield Finding("NVIDIA driver", state, f"{DRIVER}; {CONTAINER}")
    else:
        yield Finding("NVIDIA driver", f"{driver.problem}; no NVIDIA GPU is in this machine, so models run on the CPU")
    for gpu in driver.gpus:
        major, minor = gpu.capability
        state = f"{gpu.name}, compute capability {major}.{minor}, {gpu.memory / 1e9:.1f} GB"
        known = gpu.capability in WHEEL_CAPABILITIES
        advice = None if known else "onnxruntime-gpu of PyPI has no code for it; use TensorRT (the Dockerfile's jetson)"
        yield Finding(f"GPU {gpu.index}", state, advice)
    if driver.gpus:
        yield Finding(
            "GPU check", "not run by this command", "run `upres selftest --device` to load, check and measure networks"
        )


def _nvidia_packages(installed: dict[str, str]) -> Iterator[Finding]:
    for name, group in {
        "cuda-core": ("cuda-core",),
        "TensorRT": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-lean-cu13"),
        "TensorRT for RTX": ("tensorrt-rtx", "onnxruntime-ep-nv-tensorrt-rtx-cu13"),
    }.items():
        here = [f"{package} {installed[package]}" for package in group if package in installed]
        yield Finding(name, ", ".join(here) or "not installed")


def _media(engines: tuple[VideoEngine, ...], driver: Driver) -> Iterator[Finding]:
    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    yield Finding("PyAV", f"{av.__version__}, FFmpeg {libavcodec} (libavcodec)")
    for codec, format_name in REQUIRED_ENCODERS.items():
        available = codec in av.codecs_available
        remedy = None if available else "pip install --force-reinstall --only-binary av av"
        yield Finding(
            f"encoder {codec} ({format_name})", "available" if available else "missing", remedy, missing=not available
        )
    for engine in engines:
        if engine.built_in is None:
            yield Finding(engine.name, f"could not be tested: {engine.problem}")
            continue
        built_in = ", ".join(engine.built_in) or "not built in"
        state = f"{built_in}; {engine.problem or 'opens'}"
        yield Finding(engine.name, state, _video_remedy(engine) if engine.problem and driver.gpus else None)


def _cluster() -> Iterator[Finding]:
    """Report the nodes that a server started here would use, if it is configured for a cluster."""
    if os.environ.get("UPRES_EXECUTOR") != "ray":
        return
    try:
        from upres.service.execution.cluster.check import check
        from upres.service.server.settings import load
        from upres.service.server.standby import make_state

        make_state(folder := load().state)  # as a server does, so that other users cannot read it
        checked = check(folder / "jobs")
    except (ModuleNotFoundError, UpresError) as error:
        yield Finding("Ray", f"no cluster: {error}", "pip install 'upres[ray]', then see docs/scale.md", missing=True)
        return
    for each in checked:
        state = f"{each.node.cpus:g} CPUs and {each.node.gpus:g} GPUs offered"
        yield Finding(f"node {each.node.name}", f"{state}, {'not used' if each.problem else 'usable'}", each.problem)
    if all(each.problem for each in checked):
        yield Finding("Ray", "no node can be used", missing=True)


def _video_remedy(engine: VideoEngine) -> str:
    if not engine.built_in:
        return (
            "PyAV's wheels have it on x86-64 only; elsewhere: pip install --no-binary av av, with an FFmpeg that has it"
        )
    none = " (H100, H200 and A100 have no NVENC)" if engine.name == "NVENC" else ""
    return f"the CPU is used instead; it needs driver 570 or later and a GPU that has it{none}; {CONTAINER}"
