"""FlashVSR's ONNX graphs, their shared weight file and their manifest, written into a folder."""

import hashlib
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from upres.engine.core.errors import ModelError, SettingsError, TargetError
from upres.engine.models.flashvsr.manifest import FlashVSRManifest, Profile
from upres.engine.models.flashvsr.networks import FIRST, NEXT
from upres.export.graphs.external_writer import DTYPES, ExternalGraphWriter
from upres.export.graphs.weight_file import WeightFile

from .attention import Attention
from .conv_parts import write_decoder, write_projector
from .cost import (
    decoder_bytes_per_pixel,
    frame_flops_per_pixel,
    frame_state_bytes_per_pixel,
    state_bytes,
    step_bytes,
    step_flops,
)
from .transformer import Step, write_transformer
from .weights import WeightSet, check

PROFILES = ((256, 256), (512, 512), (640, 768), (768, 640))
DENSE_BLOCKS = 30  # the most attention blocks of a tile for which dense attention stands in for the published rule
Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What to export.

    profiles: tiles, height and width in output pixels, multiples of 128. exact: the published rule of attention, else dense.
    sparse_ratio, local_range: of the published rule. topk_ratio: instead of the one that follows from sparse_ratio.
    probe: graphs that also show masks and keys, for checks.
    """

    profiles: tuple[tuple[int, int], ...] = PROFILES
    precision: Precision = "fp32"
    exact: bool = True
    sparse_ratio: float = 2.0
    local_range: int = 11
    topk_ratio: float | None = None
    probe: bool = False

    def check(self) -> None:
        """SettingsError naming every tile that the transformer, or dense attention, cannot take."""
        found = []
        for height, width in self.profiles:
            if height % 128 or width % 128 or min(height, width) < 128:
                found.append(f"a tile of {width}x{height} is not made of blocks of 128x128")
            elif not self.exact and height * width // 128**2 > DENSE_BLOCKS:
                found.append(
                    f"dense attention on {width}x{height} is not what was trained: more than {DENSE_BLOCKS} blocks"
                )
        if found or not self.profiles:
            raise SettingsError("; ".join(found) or "an export needs at least one tile size")

    def attention(self, height: int, width: int) -> Attention:
        """The rule for a tile of this size: a top-k of about 120 key blocks a query block, whatever the size."""
        ratio = self.sparse_ratio * 768 * 1280 / (height * width) if self.topk_ratio is None else self.topk_ratio
        blocks = height * width // 128**2
        return Attention(int(blocks**2 * ratio) - 1, self.local_range, self.exact)


def write_graphs(weights: WeightSet, folder: Path, settings: Settings) -> FlashVSRManifest:
    """Write all graphs, their shared weight file and the manifest into a folder; gives the manifest.

    Memory stays at a few times the largest tensor: weights are read, rewritten and stored one by one.
    Raises SettingsError for tiles that cannot be, ModelError for weights that are not FlashVSR's or do not fit in the
    precision, TargetError where the folder cannot be written to.
    """
    settings.check()
    check(weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(WeightFile(folder / f"flashvsr-{settings.precision}.weights")) as data:
            graphs, profiles = _graphs(weights, data, settings)
            digest = data.finish()
        for name, graph in graphs.items():
            graph.save(folder / name)
    except OverflowError as error:
        raise ModelError(
            f"these weights cannot be exported in {settings.precision}: {error}; fp32 takes most"
        ) from error
    except OSError as error:
        raise TargetError(f"cannot write the graphs into {folder}: {error.strerror or error}") from error
    manifest = _manifest(weights, settings, profiles)
    manifest = replace(
        manifest,
        weight_file=data.path.name,
        weight_bytes=data.path.stat().st_size,
        weights_sha256=digest,
        graphs={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in graphs},
    )
    manifest.write(folder)
    return manifest


def _graphs(
    weights: WeightSet, data: WeightFile, settings: Settings
) -> tuple[dict[str, ExternalGraphWriter], tuple[Profile, ...]]:
    """All graphs by their files' names, not saved yet, their weights in the file; and the tiles they are for."""
    other = "fp32" if settings.precision == "fp32" else "fp16"
    # ONNX Runtime's CUDA provider lacks the newer versions of some operators, whose tensors would go through the CPU: Pad
    # and Resize are in 18, Gelu came with 20, the fused Attention with 23.
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
    """The manifest as far as it follows from weights and settings; the files come later."""
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
