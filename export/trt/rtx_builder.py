"""One ONNX graph built by TensorRT for RTX in a process of its own: the same graph gives the same bytes every time.

The builder keeps tensors in tables keyed by their addresses, and writes them in that order. In a new thread of a new process
its allocations are in an arena of their own, so that their distances, and with them the order, are always the same; in a
process that has done anything else before, they are not. Sizes must be fixed: where they are ranges, the builder also chooses
between equal expressions by address, and no two builds agree.
"""

import importlib
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

BUILD_SECONDS = 3600
ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # what would move the builder's allocations


def check(capability: str) -> None:
    """Raise ModelError where TensorRT for RTX is not installed, SettingsError for a compute capability that it does not know."""
    known = _tensorrt().ComputeCapability.__members__
    if capability not in known:
        raise SettingsError(f"unknown compute capability {capability!r}; this version has: {', '.join(known)}")


def build(graph: Path, sizes: Mapping[str, int], out: Path, *, capability: str) -> None:
    """Build a graph into the file `out`. sizes: of every named dimension. capability: of the GPUs that will run it: SM89.

    Raises ModelError with the builder's message where it refuses the graph, or takes longer than BUILD_SECONDS.
    """
    command = [sys.executable, "-m", __name__, graph.name, str(out.absolute()), capability, json.dumps(sizes)]
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
        raise ModelError(f"TensorRT for RTX has not built {graph} within {BUILD_SECONDS} s") from error
    if done.returncode:
        message = done.stdout.strip() or f"it exited with {done.returncode}"
        raise ModelError(f"TensorRT for RTX cannot build {graph}: {message}")


def _tensorrt() -> Any:  # noqa: ANN401 - the package has no types
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        raise ModelError("TensorRT for RTX is not installed; get it with: pip install tensorrt-rtx") from error


def _plan(trt: Any, name: str, capability: str, sizes: Mapping[str, int]) -> Any:  # noqa: ANN401
    """Build the engine's bytes; None where that fails: the builder's log says why."""
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(name):
        return None
    for value in (network.get_input(index) for index in range(network.num_inputs)):
        dynamic = [axis for axis, size in enumerate(value.shape) if size < 0]
        if dynamic:
            named = {axis: sizes[value.get_dimension_name(axis)] for axis in dynamic}
            value.shape = tuple(named.get(axis, size) for axis, size in enumerate(value.shape))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    return builder.build_serialized_network(network, config)


def main() -> None:
    """Build in a new thread: GRAPH OUT CAPABILITY SIZES, the last one JSON; exit 1 where that fails."""
    name, out, capability, sizes = sys.argv[1:]
    trt, dimensions = _tensorrt(), json.loads(sizes)
    outcome: Future[Any] = Future()
    thread = threading.Thread(target=lambda: outcome.set_result(_plan(trt, name, capability, dimensions)))
    thread.start()
    thread.join()
    # Where the thread raised, its traceback is on stderr.
    if not outcome.done() or (plan := outcome.result()) is None:
        sys.exit(1)
    Path(out).write_bytes(memoryview(plan))


if __name__ == "__main__":
    main()
