"""FlashVSR's graphs built ahead of time by TensorRT for RTX, on a machine that needs no GPU."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upres.engine.errors import ModelError, SettingsError
from upres.engine.flashvsr_manifest import Profile, read


@dataclass(frozen=True, slots=True)
class Engine:
    """A built engine. nbytes: its size. Two builds of a graph are not the same bytes: the builder lists tensors in any order."""

    graph: str
    path: Path
    nbytes: int


def build_engines(folder: Path, out: Path, *, capability: str = "SM89") -> Iterator[Engine]:
    """Build every graph of an export for one compute capability, such as SM89.

    Projector and decoder, whose graphs take any size, are built for whole tiles of the largest profile at most.
    Raises ModelError where TensorRT for RTX is missing or refuses a graph, with its own words.
    """
    try:
        trt: Any = importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        raise ModelError("TensorRT for RTX is not installed; get it with: pip install tensorrt-rtx") from error
    if not hasattr(trt.ComputeCapability, capability):
        known = ", ".join(trt.ComputeCapability.__members__)
        raise SettingsError(f"unknown compute capability {capability!r}; this version has: {known}")
    manifest = read(folder)
    out.mkdir(parents=True, exist_ok=True)
    ranges = _ranges(manifest.profiles)
    for name in manifest.graphs:
        plan = _build(trt, folder / name, getattr(trt.ComputeCapability, capability), ranges)
        path = out / f"{Path(name).stem}-{capability.lower()}.engine"
        path.write_bytes(plan)
        yield Engine(name, path, len(plan))


def _ranges(profiles: tuple[Profile, ...]) -> dict[str, tuple[int, int]]:
    """The smallest and largest size of every named dimension of the graphs."""
    sides = {
        "H": [min(p.height for p in profiles), max(p.height for p in profiles)],
        "W": [min(p.width for p in profiles), max(p.width for p in profiles)],
    }
    ranges = {"T": (1, 6), "4*T": (4, 24)}
    for side, (low, high) in sides.items():
        ranges |= {side: (low, high)} | {f"{side}/{n}": (low // n, high // n) for n in (2, 4, 8, 16)}
    return ranges


def _build(trt: Any, path: Path, capability: object, ranges: Mapping[str, tuple[int, int]]) -> bytes:  # noqa: ANN401
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(path)):
        words = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise ModelError(f"TensorRT for RTX cannot read {path}: {words}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(capability, 0)
    profile = builder.create_optimization_profile()
    for value in (network.get_input(index) for index in range(network.num_inputs)):
        sizes = [
            (size, size) if size >= 0 else ranges[value.get_dimension_name(axis)]
            for axis, size in enumerate(value.shape)
        ]
        low, high = (tuple(size[end] for size in sizes) for end in (0, 1))
        profile.set_shape(value.name, low, high, high)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelError(f"TensorRT for RTX cannot build {path}; its log says why")
    return bytes(plan)
