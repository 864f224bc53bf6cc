"""One ONNX graph built by TensorRT or TensorRT for RTX in a process of its own; by the latter to the same bytes every time.

TensorRT for RTX keeps tensors in tables keyed by their addresses, and writes them in that order. In a new thread of a new process
its allocations are in an arena of their own, so that their distances, and with them the order, are always the same; in a
process that has done anything else before, they are not. Sizes must be fixed: where they are ranges, the builder also chooses
between equal expressions by address, and no two builds agree.

Both builders are called alike, TensorRT from 10.14 to 11: the network is strongly typed, so the precision is the graph's.
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
ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # what would move the builder's allocations
USUAL = "SM89"
"""What TensorRT for RTX builds for where no GPU is here and none is named."""


def find(target: Target, driver: Driver, capability: str | None = None) -> Builder:
    """Find the builder of this machine. capability: of the GPUs that will run its engines; by default the GPU's that is here.

    Raises ModelError where it is not installed, or needs a GPU and there is none; SettingsError for a compute capability that it
    cannot build for.
    """
    if importlib.util.find_spec(MODULES[target]) is None:
        raise ModelError(f"{target} is not installed; get it with: {INSTALL[target]}")
    here = capability_of(driver.gpus[0]) if driver.gpus and not driver.problem else None
    if target == "tensorrt":
        # Without a driver its builder is no object, and its runtime crashes.
        if here is None:
            raise ModelError(
                f"tensorrt builds on the GPU that will run the engine, and {driver.problem}; "
                "tensorrt-rtx builds without one, with: --target tensorrt-rtx"
            )
        if capability not in (None, here):
            raise SettingsError(f"tensorrt builds for the GPU that is here, which is {here}, not {capability}")
        return Builder(target, _load(target).__version__, here)
    trt = _load(target)
    wanted = capability or here or USUAL
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    if wanted not in known:
        raise SettingsError(
            f"{target} {trt.__version__} cannot build for the compute capability {wanted}; it has: {', '.join(known)}"
        )
    return Builder(target, trt.__version__, wanted)


def build(graph: Path, sizes: Mapping[str, int], out: Path, builder: Builder) -> None:
    """Build a graph into the file `out`. sizes: of every named dimension of its inputs.

    Raises ModelError with the builder's message where it refuses the graph, or takes longer than BUILD_SECONDS.
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
        # The graph's name alone: a longer path would be a longer allocation.
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
    """Build the engine's bytes; None where that fails: the builder's log says why.

    capability: of the GPUs to build for; None for the one that is here.
    """
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(name):
        # TensorRT for RTX logs these itself.
        print(*(parser.get_error(index) for index in range(parser.num_errors)), sep="\n")  # noqa: T201 - the parent reads it
        return None
    for value in (network.get_input(index) for index in range(network.num_inputs)):
        dynamic = [axis for axis, size in enumerate(value.shape) if size < 0]
        if dynamic:
            named = {axis: sizes[value.get_dimension_name(axis)] for axis in dynamic}
            value.shape = tuple(named.get(axis, size) for axis, size in enumerate(value.shape))
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # it keeps 10 of float32's 23 bits
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    return builder.build_serialized_network(network, config)


def main() -> None:
    """Build in a new thread: GRAPH OUT TARGET CAPABILITY SIZES, the last one JSON; exit 1 where that fails."""
    name, out, target, capability, sizes = sys.argv[1:]
    known: dict[str, Target] = {each: each for each in MODULES}
    trt, dimensions = _load(known[target]), json.loads(sizes)
    chosen = capability if target == "tensorrt-rtx" else None
    outcome: Future[Any] = Future()
    thread = threading.Thread(target=lambda: outcome.set_result(plan(trt, name, chosen, dimensions)))
    thread.start()
    thread.join()
    # Where the thread raised, its traceback is on stderr.
    if not outcome.done() or (built := outcome.result()) is None:
        sys.exit(1)
    part = Path(f"{out}.part")
    part.write_bytes(memoryview(built))
    part.replace(out)


if __name__ == "__main__":
    main()
