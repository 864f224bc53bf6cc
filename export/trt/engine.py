"""Build of one engine, its expected first run, computed by ONNX Runtime, and its manifest."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - registers bfloat16 with NumPy
import numpy as np

from upres.engine.core.errors import TargetError, os_errors_as
from upres.engine.graphs import parts
from upres.engine.graphs.parts import NAMES
from upres.engine.runtime.base import cpus
from upres.engine.runtime.engines import first_run
from upres.engine.runtime.engines.manifest import Builder, Contents, EngineManifest, first_run_file, manifest_path
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.export.weights.read import sha256

from . import builder as builders

Inputs = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


@dataclass(frozen=True, slots=True)
class Engine:
    """A built engine. graph: the file it was built from. nbytes: its size. seconds: wall-clock time of the build.

    sha256: of its bytes, which are reproducible for a graph and a release of TensorRT for RTX.
    """

    graph: str
    path: Path
    nbytes: int
    sha256: str
    seconds: float


def build(graph: Path, sizes: Mapping[str, int], path: Path, builder: Builder) -> Engine:
    """Build a graph and write the engine to `path`, creating its folder. sizes: of every named dimension of its inputs.

    The manifest and first run of an older engine at this path are deleted first.
    """
    with os_errors_as(path, TargetError):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in (manifest_path(path), first_run_file(path)):
            old.unlink(missing_ok=True)
    start = time.perf_counter()
    builders.build(graph, sizes, path, builder)
    seconds = time.perf_counter() - start
    return Engine(graph.name, path, path.stat().st_size, sha256(path), seconds)


def describe(
    engine: Engine,
    graph: Path,
    sizes: Mapping[str, int],
    *,
    reference: Path,
    precision: str,
    weights_sha256: str = "",
    builder: Builder,
    command: str,
) -> EngineManifest:
    """Write the files next to an engine: its first run, then its manifest, which therefore never lacks a first run.

    graph: the graph that the engine was built from. reference: the graph that computes the first run, in float32 if there is
    a choice. weights_sha256: of weights outside `graph`. command: the command that rebuilds the engine.
    """
    inputs = inputs_of(graph, sizes)
    loaded = OnnxRuntimeGraph(reference, cpus())
    outputs = loaded.run(first_run.fixed_inputs(inputs))
    loaded.close()
    with os_errors_as(engine.path, TargetError):
        first_run.write(engine.path, outputs)
        shapes = {name: shape for name, (shape, _) in inputs.items()}
        contents = Contents(sha256(graph), weights_sha256, precision, shapes)
        stored = sha256(first_run_file(engine.path))
        manifest = EngineManifest(contents, builder, engine.sha256, engine.nbytes, stored, command)
        manifest.write(engine.path)
    return manifest


def inputs_of(graph: Path, sizes: Mapping[str, int]) -> Inputs:
    """Return the shape and type of every input of a graph. sizes: of every named dimension."""
    inputs: Inputs = {}
    for value in parts.read(graph).graph.input:
        kind = value.type.tensor_type
        shape = tuple(sizes[axis.dim_param] if axis.dim_param else axis.dim_value for axis in kind.shape.dim)
        inputs[value.name] = (shape, np.dtype(NAMES[kind.elem_type]))
    return inputs
