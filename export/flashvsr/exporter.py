"""FlashVSR's exporter, from public weights to ONNX graphs with a manifest, verified against PyTorch."""

from dataclasses import replace
from pathlib import Path

from upres.engine.core.errors import ModelError
from upres.engine.models.flashvsr.manifest import FlashVSRManifest, Version

from .graphs.settings import Settings
from .graphs.write import write_graphs
from .verify.acceptance import Report, accept, read_clip
from .verify.compare import compare_export
from .weights.files import read_folder

# Maximum difference of graphs from PyTorch in float32, relative to the largest value, including flipped attention blocks.
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}


def export_flashvsr(
    weights: Path, out: Path, *, version: Version | None = None, settings: Settings | None = None, verify: bool = False
) -> FlashVSRManifest:
    """Export the public weight files in a folder. verify: also compare the graphs with PyTorch, which is slow.

    Returns the manifest, with the differences from PyTorch if verified. Raises ModelError for unusable weights, and for graphs
    that differ from PyTorch by more than their precision explains.
    """
    settings = settings or Settings()
    weight_set = read_folder(weights, version)
    manifest = write_graphs(weight_set, out, settings)
    if not verify:
        return manifest
    manifest = replace(manifest, verified=compare_export(weight_set, out, settings))
    manifest.write(out)
    limit = TOLERANCES[settings.precision]
    if wrong := [f"{name} by {value:.1e}" for name, value in manifest.verified.items() if not value <= limit]:
        raise ModelError(
            f"the graphs in {out} differ from PyTorch by more than {limit:g}: {', '.join(wrong)}; do not use them"
        )
    return manifest


def accept_flashvsr(weights: Path, graphs: Path, *, clip: Path, report: Path, version: Version | None = None) -> Report:
    """Export in float32 and compare with PyTorch on a real clip; the report, with images, is written to a folder.

    Raises SourceError, before the export, if the clip is too small or too short.
    """
    judged = read_clip(clip)
    export_flashvsr(weights, graphs, version=version)
    return accept(read_folder(weights, version), weights, graphs, judged, report)
