"""Writer of FlashVSR's ONNX graphs, their shared weight file and their manifest."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from upres.engine.core.errors import ModelError, TargetError, reason
from upres.engine.models.flashvsr.manifest import FILE, FlashVSRManifest, Profile
from upres.engine.models.flashvsr.networks import FIRST, NEXT
from upres.export.flashvsr.weights.weight_set import WeightSet, check
from upres.export.graphs.external_writer import DTYPES, ExternalGraphWriter
from upres.export.graphs.weight_file import WeightFile
from upres.export.weights.read import sha256

from .conv_parts import write_decoder, write_projector
from .cost import (
    decoder_bytes_per_pixel,
    frame_flops_per_pixel,
    frame_state_bytes_per_pixel,
    state_bytes,
    step_bytes,
    step_flops,
)
from .settings import Settings
from .step import Step
from .transformer import write_transformer


def write_graphs(weights: WeightSet, folder: Path, settings: Settings) -> FlashVSRManifest:
    """Write all graphs, their shared weight file and the manifest to a folder; returns the manifest.

    Memory is limited to a few times the largest tensor: weights are read, converted and stored one by one.
    Raises SettingsError for impossible tiles, ModelError for weights that are not FlashVSR's or do not fit in the precision, and
    TargetError if the folder cannot be written.
    """
    settings.check()
    check(weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(WeightFile(folder / f"flashvsr-{settings.precision}.weights")) as data:
            graphs, profiles = _graphs(weights, data, settings)
            # Until the new manifest is written there is none, so that old graphs are never read with new weights.
            (folder / FILE).unlink(missing_ok=True)
            digest = data.finish()
        for name, graph in graphs.items():
            graph.save(folder / name)
        manifest = replace(
            _manifest(weights, settings, profiles),
            weight_file=data.path.name,
            weight_bytes=data.path.stat().st_size,
            weights_sha256=digest,
            graphs={name: sha256(folder / name) for name in graphs},
        )
        manifest.write(folder)
    except OverflowError as error:
        raise ModelError(
            f"these weights cannot be exported in {settings.precision}: {error}; fp32 has the largest range"
        ) from error
    except OSError as error:
        raise TargetError(f"cannot write the graphs to {folder}: {reason(error)}") from error
    return manifest


def _graphs(
    weights: WeightSet, data: WeightFile, settings: Settings
) -> tuple[dict[str, ExternalGraphWriter], tuple[Profile, ...]]:
    """Build all graphs, writing their weights to the shared file; returns the unsaved graphs by file name, and their tiles."""
    other = "fp32" if settings.precision == "fp32" else "fp16"
    # ONNX Runtime's CUDA provider lacks newer versions of some operators, which would then run on the CPU: Pad and Resize are
    # supported up to 18; Gelu needs 20, and the fused Attention 23.
    opset = 20 if settings.exact else 23
    profiles = []
    graphs = {
        "projector.onnx": ExternalGraphWriter("projector", data, other, 18),
        "decoder.onnx": ExternalGraphWriter("decoder", data, other, 18),
    }
    write_projector(graphs["projector.onnx"], weights)
    write_decoder(graphs["decoder.onnx"], weights)
    for height, width in settings.profiles:
        rule = settings.attention(height, width)
        profiles.append(_profile(weights, height, width, DTYPES[settings.precision].itemsize))
        for name, frames in ((profiles[-1].first, FIRST), (profiles[-1].following, NEXT)):
            graphs[name] = ExternalGraphWriter(name.removesuffix(".onnx"), data, settings.precision, opset)
            write_transformer(graphs[name], weights, rule, Step(frames, height, width, settings.probe))
    return graphs, tuple(profiles)


def _manifest(weights: WeightSet, settings: Settings, profiles: tuple[Profile, ...]) -> FlashVSRManifest:
    """Build the manifest from weights and settings; the files are added later."""
    itemsize = 4 if settings.precision == "fp32" else 2  # of projector and decoder
    return FlashVSRManifest(
        network=f"flashvsr-{weights.version}-tiny",
        slug="FlashVSR_Tiny",
        version=weights.version,
        weights=weights.origin,
        precision=settings.precision,
        attention="exact" if settings.exact else "dense",
        layers=weights.configuration.layers,
        dim=weights.configuration.dim,
        head_dim=weights.configuration.head_dim,
        sparse_ratio=settings.sparse_ratio,
        local_range=settings.local_range,
        projector="projector.onnx",
        decoder="decoder.onnx",
        profiles=profiles,
        weight_file="",
        weight_bytes=0,
        weights_sha256="",
        graphs={},
        frame_flops=frame_flops_per_pixel(weights),
        frame_state_bytes=frame_state_bytes_per_pixel(weights, itemsize),
        decoder_bytes=decoder_bytes_per_pixel(weights, itemsize),
        verified={},
    )


def _profile(weights: WeightSet, height: int, width: int, itemsize: int) -> Profile:
    first, following = (Step(frames, height, width) for frames in (FIRST, NEXT))
    return Profile(
        height,
        width,
        first=f"first-{height}x{width}.onnx",
        following=f"next-{height}x{width}.onnx",
        flops=step_flops(weights, following),
        state_bytes=state_bytes(weights, following, itemsize),
        working_bytes=max(step_bytes(weights, step, itemsize) for step in (first, following)),
    )
