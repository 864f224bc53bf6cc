"""Checks before an engine is loaded: a stale, foreign or damaged one is rejected with the command that rebuilds it."""

import hashlib
from pathlib import Path
from typing import Any

from upres.engine.core.errors import ModelError
from upres.engine.machine.nvidia import GPU, Driver

from .manifest import Builder, Contents, EngineManifest, first_run_file, manifest_path, read


def check(
    engine: Path, contents: Contents, builder: Builder, driver: Driver, *, command: str
) -> tuple[bytes, EngineManifest]:
    """Read an engine after checking that it has these contents, was built by this builder for this GPU, and is intact.

    builder: the package on this machine and the GPU's `capability_of`. driver: if it is unusable nothing is read, because
    TensorRT's runtime may crash then. command: builds this engine. Raises ModelError naming every problem, and the command.
    """
    remedy = f"build it with: {command}"
    if driver.problem:
        raise ModelError(
            f"the engine {engine.name} needs an NVIDIA GPU and its driver, and {driver.problem}; when both are available, {remedy}"
        )
    if not engine.is_file() or not manifest_path(engine).is_file():
        raise ModelError(f"there is no engine {engine}; {remedy}")
    try:
        known = read(engine)
    except ModelError as error:
        raise ModelError(f"{error}, with: {command}") from error
    blob = _whole(engine, known, remedy)
    problems = _stale(known.contents, contents) + _foreign(known.builder, builder)
    if problems:
        raise ModelError(f"the engine {engine} cannot be used: {'; '.join(problems)}; {remedy}")
    return blob, known


def capability_of(gpu: GPU) -> str:
    """Return a GPU's compute capability as builders name it, such as SM89."""
    major, minor = gpu.capability
    return f"SM{major}{minor}"


def check_validity(module: Any, runtime: Any, blob: bytes, *, engine: Path, command: str) -> None:  # noqa: ANN401
    """Raise ModelError if TensorRT for RTX reports that an engine is invalid on this GPU. TensorRT has no such check.

    module: tensorrt_rtx. runtime: its Runtime, which must only be created if there is a driver.
    """
    if not hasattr(runtime, "get_engine_validity"):
        return
    validity, diagnostics = runtime.get_engine_validity(blob)
    if validity == module.EngineValidity.INVALID:
        raise ModelError(
            f"TensorRT for RTX {module.__version__} rejects the engine {engine} on this GPU (diagnostics {int(diagnostics)}); "
            f"build it with: {command}"
        )


def _whole(engine: Path, known: EngineManifest, remedy: str) -> bytes:
    """Read the engine. Raises ModelError if it or its first run differs from what was written."""
    blob, run = engine.read_bytes(), first_run_file(engine)
    if len(blob) != known.nbytes:
        raise ModelError(f"the engine {engine} is truncated: it has {len(blob)} bytes of {known.nbytes}; {remedy}")
    if _sha256(blob) != known.sha256:
        raise ModelError(f"the engine {engine} is damaged: its sha256 is not that of its manifest; {remedy}")
    if not run.is_file() or _sha256(run.read_bytes()) != known.first_run_sha256:
        raise ModelError(f"{run}, which the engine's first run is compared with, is missing or damaged; {remedy}")
    return blob


def _stale(known: Contents, expected: Contents) -> list[str]:
    """List how the engine's contents differ from the expected ones."""
    problems = []
    if known.precision != expected.precision:
        problems.append(f"it computes in {known.precision}, not in {expected.precision}")
    elif (known.graph_sha256, known.weights_sha256) != (expected.graph_sha256, expected.weights_sha256):
        problems.append("it is stale: the network's graph has changed since it was built")
    if known.inputs != expected.inputs:
        problems.append(f"its inputs are {_shapes(known)}, not {_shapes(expected)}")
    return problems


def _foreign(known: Builder, here: Builder) -> list[str]:
    """List how the engine's builder and GPU differ from those of this machine."""
    problems = []
    if (known.target, known.version) != (here.target, here.version):
        problems.append(
            f"it was built by {known.target} {known.version}, and this machine has {here.target} {here.version}"
        )
    if known.capability != here.capability:
        problems.append(f"it was built for GPUs of {known.capability}, and this one is {here.capability}")
    return problems


def _shapes(contents: Contents) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in contents.inputs.items())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
