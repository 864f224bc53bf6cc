"""Manifest of an engine, stored next to it: what it was built from, by which builder and for which GPUs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from upres.engine.core.errors import ModelError

Target = Literal["tensorrt", "tensorrt-rtx"]
MODULES: dict[Target, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Python package of every builder, which also contains the runtime."""
INSTALL: dict[Target, str] = {
    "tensorrt": "pip install 'tensorrt-cu13>=10.14,<12'",
    "tensorrt-rtx": "pip install 'upres[rtx]'",
}
"""Command that installs it."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What an engine computes.

    graph_sha256: of the ONNX file that it was built from, in the engine's precision. weights_sha256: of external weights; empty if
    they are part of that file. precision: fp32, fp16 or bf16. inputs: the shape of every input.
    """

    graph_sha256: str
    weights_sha256: str
    precision: str
    inputs: dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Builder:
    """The package that built an engine, and its target GPUs. version: of the package. capability: compute capability, as SM89."""

    target: Target
    version: str
    capability: str

    def __str__(self) -> str:
        return f"{self.target} {self.version} for {self.capability}"


@dataclass(frozen=True, slots=True)
class EngineManifest:
    """Facts about an engine. sha256, nbytes: of the engine. first_run_sha256: of the file of the first run.

    command: rebuilds the engine.
    """

    contents: Contents
    builder: Builder
    sha256: str
    nbytes: int
    first_run_sha256: str
    command: str

    def write(self, engine: Path) -> None:
        """Write the manifest as JSON next to the engine, atomically."""
        path = manifest_path(engine)
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n")
        part.replace(path)


def file_name(network: str, precision: str, width: int, height: int, builder: Builder) -> str:
    """Return the file name of an engine. width, height: of its input tile."""
    return f"{network}-{precision}-{width}x{height}-{builder.target}-{builder.capability.lower()}.engine"


def manifest_path(engine: Path) -> Path:
    """Return the path of an engine's manifest."""
    return engine.with_suffix(".json")


def first_run_file(engine: Path) -> Path:
    """Return the path of the file that holds the expected outputs of an engine's first run."""
    return engine.with_suffix(".npz")


def read(engine: Path) -> EngineManifest:
    """Read an engine's manifest. Raises ModelError if it is invalid. Unknown fields are ignored."""
    path = manifest_path(engine)
    try:
        values = json.loads(path.read_text())
        contents = _known(Contents, values["contents"])
        shapes = {name: tuple(shape) for name, shape in contents.pop("inputs").items()}
        rest = _known(EngineManifest, values) | {"builder": Builder(**_known(Builder, values["builder"]))}
        return EngineManifest(**rest | {"contents": Contents(**contents, inputs=shapes)})
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"{path} is not a readable engine manifest ({error}); build the engine again") from error


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: values[each.name] for each in fields(kind)}
