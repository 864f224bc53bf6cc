"""Build of an ONNX graph with TensorRT or TensorRT for RTX in a separate process. The latter's builds are reproducible.

TensorRT for RTX stores tensors in tables keyed by their addresses, and writes them in that order. In a new thread of a new
process, its allocations are in a separate arena, so their distances, and therefore the order, are always the same; in a process
that has done other work before, they are not. Sizes must be fixed: with size ranges, the builder also chooses between equal
expressions by address, and builds differ.

Both builders have the same API, TensorRT from 10.14 to 11. Networks are strongly typed, so the graph determines the precision.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.machine.nvidia import Driver
from upres.engine.runtime.engines.check import capability_of
from upres.engine.runtime.engines.manifest import INSTALL, MODULES, Builder, Target

BUILD_SECONDS = 3600
ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # variables that would move the builder's allocations
DEFAULT_CAPABILITY = "SM89"
"""The default compute capability of TensorRT for RTX on machines without a GPU."""


def find(target: Target, driver: Driver, capability: str | None = None) -> Builder:
    """Return the builder on this machine. capability: of the GPUs that will run its engines; by default that of the local GPU.

    Raises ModelError if the builder is not installed or needs a GPU and there is none, and SettingsError for a compute capability
    that it cannot build for.
    """
    if importlib.util.find_spec(MODULES[target]) is None:
        raise ModelError(f"{target} is not installed; get it with: {INSTALL[target]}")
    local = capability_of(driver.gpus[0]) if driver.gpus and not driver.problem else None
    if target == "tensorrt":
        # Without a driver, creating the builder returns None, and its runtime crashes.
        if local is None:
            raise ModelError(
                f"tensorrt must build on the GPU that will run the engine, but {driver.problem}; "
                "to build without a GPU, use: --target tensorrt-rtx"
            )
        if capability not in (None, local):
            raise SettingsError(f"tensorrt builds for the local GPU only, which is {local}, not {capability}")
        return Builder(target, _load(target).__version__, local)
    trt = _load(target)
    requested = capability or local or DEFAULT_CAPABILITY
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    if requested not in known:
        raise SettingsError(
            f"{target} {trt.__version__} cannot build for the compute capability {requested}; choose one of: {', '.join(known)}"
        )
    return Builder(target, trt.__version__, requested)


def build(graph: Path, sizes: Mapping[str, int], out: Path, builder: Builder) -> None:
    """Build a graph and write the engine to `out`. sizes: of every named dimension of its inputs.

    Raises ModelError with the builder's message if it rejects the graph or takes longer than BUILD_SECONDS.
    """
    command = [
        sys.executable,
        "-m",
        __name__,
        graph.name,
        str(out.absolute()),
        builder.target,
        builder.capability,
        json.dumps(sizes),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ALLOCATOR)}
    try:
        # Only the graph's name is passed, because a longer path would change an allocation.
        done = subprocess.run(
            command,
            cwd=graph.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{builder.target} has not built {graph} within {BUILD_SECONDS} s") from error
    if done.returncode:
        message = done.stdout.strip() or f"it exited with {done.returncode}"
        raise ModelError(f"{builder.target} cannot build {graph}: {message}")


def _load(target: Target) -> Any:  # noqa: ANN401 - the packages have no types
    return importlib.import_module(MODULES[target])


def plan(trt: Any, name: str, capability: str | None, sizes: Mapping[str, int]) -> Any:  # noqa: ANN401
    """Build an engine and return its bytes; None if that fails, with the reason in the builder's log.

    capability: of the GPUs to build for; None for the local GPU.
    """
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(name):
        # TensorRT for RTX logs these errors itself.
        print(*(parser.get_error(index) for index in range(parser.num_errors)), sep="\n")  # noqa: T201 - the parent reads it
        return None
    for value in (network.get_input(index) for index in range(network.num_inputs)):
        dynamic = [axis for axis, size in enumerate(value.shape) if size < 0]
        if dynamic:
            fixed = {axis: sizes[value.get_dimension_name(axis)] for axis in dynamic}
            value.shape = tuple(fixed.get(axis, size) for axis, size in enumerate(value.shape))
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # it keeps 10 of float32's 23 bits
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    return builder.build_serialized_network(network, config)


def main() -> None:
    """Build in a new thread. Arguments: GRAPH OUT TARGET CAPABILITY SIZES, the last in JSON. Exits with 1 if the build fails."""
    name, out, target, capability, sizes = sys.argv[1:]
    known: dict[str, Target] = {each: each for each in MODULES}
    trt, dimensions = _load(known[target]), json.loads(sizes)
    chosen = capability if target == "tensorrt-rtx" else None
    outcome: Future[Any] = Future()
    thread = threading.Thread(target=lambda: outcome.set_result(plan(trt, name, chosen, dimensions)))
    thread.start()
    thread.join()
    # If the thread raised an exception, its traceback is on stderr.
    if not outcome.done() or (built := outcome.result()) is None:
        sys.exit(1)
    part = Path(f"{out}.part")
    part.write_bytes(memoryview(built))
    part.replace(out)


if __name__ == "__main__":
    main()
