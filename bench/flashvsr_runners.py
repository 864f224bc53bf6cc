"""Runners of FlashVSR on PyTorch and on ONNX Runtime, in steps of 8 frames, for bench/flashvsr.py."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from upres.engine.models.flashvsr.loading import Loader, load_token_cuts
from upres.engine.models.flashvsr.manifest import read
from upres.engine.models.flashvsr.model import DEPTH
from upres.engine.models.flashvsr.networks import CLIP, FIRST, LATENT, NEXT, draw_noise
from upres.engine.models.flashvsr.session_parts import Graphs, LiveNetworks
from upres.engine.models.flashvsr.shot import Canvas, LiveShot
from upres.engine.models.flashvsr.tiles import GRID, LATENT_PIXELS, Layout
from upres.engine.runtime.base import DeviceKind, cpus
from upres.engine.runtime.ring.resident import Resident
from upres.export.flashvsr.graphs.attention import Attention
from upres.export.flashvsr.verify import reference
from upres.export.flashvsr.weights.torch_tensors import read_all
from upres.export.flashvsr.weights.weight_set import WeightSet

SCALE = 4
FRAMES = CLIP * NEXT  # per step
DRAW = np.random.Generator(np.random.Philox(0))


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps that repeat the same 8 frames. parts: the parts of a step, by name. whole: a complete step."""

    runs_on: str
    parts: dict[str, Callable[[], object]]
    whole: Callable[[], object]


def pytorch_steps(layout: Layout, weights: WeightSet, device: str, backend: str | None) -> Steps:
    """Prepare PyTorch in bfloat16, with the transformer's layers compiled if a backend is given."""
    dtype, c = torch.bfloat16, weights.configuration
    projector = reference.Projector(read_all(weights.lq, device, dtype), weights.version)
    decoder = reference.Decoder(read_all(weights.tc, device, dtype))
    dit = read_all(weights.dit, device, dtype)
    prompt = torch.from_numpy(weights.prompt).to(device, dtype)
    transformers = [reference.Transformer(dit, prompt, c, Attention(0, exact=False)) for _ in layout.tiles]
    if backend:
        for transformer in transformers:
            transformer.compile(backend)
    clip = torch.from_numpy(DRAW.uniform(-1, 1, (1, 3, CLIP, layout.height, layout.width))).to(device, dtype)
    rows, columns = layout.height // LATENT_PIXELS, layout.width // LATENT_PIXELS
    noise = torch.from_numpy(DRAW.standard_normal((1, LATENT, FIRST, rows, columns))).to(device, dtype)
    shares = [torch.from_numpy(share).to(device, dtype) for share in layout.shares()]

    def project(count: int = NEXT) -> torch.Tensor:
        tokens = [projector(clip).reshape(layout.height // GRID, layout.width // GRID, c.dim) for _ in range(count)]
        return torch.stack(tokens)

    def transform(tokens: torch.Tensor) -> torch.Tensor:
        blended = torch.zeros_like(noise[:, :, : len(tokens)])
        for tile, share, transformer in zip(layout.tiles, shares, transformers, strict=True):
            part = tile.cut(tokens.permute(0, 3, 1, 2), GRID).permute(0, 2, 3, 1).reshape(1, -1, c.dim)
            clean = transformer(tile.cut(noise[:, :, : len(tokens)], LATENT_PIXELS).contiguous(), part)
            tile.cut(blended, LATENT_PIXELS).add_(clean * share)
        return blended

    def decode(clean: torch.Tensor) -> torch.Tensor:
        return torch.cat([decoder(clean[:, :, at : at + 1], clip) for at in range(clean.shape[2])])

    inference = torch.inference_mode()
    projector(clip)
    inferred = {name: inference(work) for name, work in {"p": project, "t": transform, "d": decode}.items()}
    tokens = inferred["p"](FIRST)
    inferred["t"](tokens)
    tokens, clean = inferred["p"](), noise[:, :, :NEXT]
    return Steps(
        f"PyTorch {torch.__version__} bf16{f', {backend}' if backend else ''}",
        {
            "projector": inferred["p"],
            "transformer": partial(inferred["t"], tokens),
            "decoder": partial(inferred["d"], clean),
        },
        lambda: inferred["d"](inferred["t"](inferred["p"]())),
    )


def onnxruntime_steps(layout: Layout, graphs: Path, device: DeviceKind) -> Steps:
    """Prepare the exported graphs as in a live session; the whole step includes colors and the bicubic upscale."""
    manifest, profile = read(graphs), layout.profile

    load = Loader(device, cpus())
    names = manifest.projector, manifest.decoder, profile.first, profile.following
    projector, decoder, first, following = (load(graphs / name) for name in names)
    parts = Graphs(projector, decoder, first, following, load_token_cuts(decoder), manifest.head_dim, DEPTH[device])
    networks = LiveNetworks(parts, layout)
    canvas = Canvas(layout.height, layout.width, SCALE, layout, ThreadPoolExecutor(CLIP))
    shot = LiveShot(canvas, networks, partial(draw_noise, 0), pause=lambda: None)
    source = DRAW.integers(0, 256, (layout.height // SCALE, layout.width // SCALE, 3), dtype=np.uint8)
    for _ in range(CLIP * FIRST + 1):  # the frames of a shot's first step
        list(shot.push(source))

    clip = DRAW.integers(0, 256, (CLIP, layout.height, layout.width, 3), dtype=np.uint8)
    one, resident = networks.projector(layout.height, layout.width), Resident(decoder)
    tile = layout.tiles[0]
    count = NEXT * tile.height * tile.width // GRID**2
    tokens = resident.upload(DRAW.standard_normal((1, count, manifest.dim), np.float32))
    shape = (1, LATENT, NEXT, tile.height // LATENT_PIXELS, tile.width // LATENT_PIXELS)
    noise = DRAW.standard_normal(shape, np.float32)

    def project() -> None:
        for _ in range(NEXT):
            one.push(clip)
        one.wait()

    latent = DRAW.standard_normal((1, LATENT, layout.height // 8, layout.width // 8), np.float32)
    decoded = DRAW.standard_normal((CLIP, 3, layout.height, layout.width), np.float32)
    return Steps(
        f"{following.report.removesuffix(' fp32')} {manifest.precision}, {manifest.attention} attention",
        {
            "projector": project,
            "transformer": lambda: [transformer.push(noise, tokens, FIRST) for transformer in networks.transformers],
            "decoder": lambda: [networks.decoder.push(latent, clip) for _ in range(NEXT)],
            "bicubic upscale": lambda: list(canvas.threads.map(canvas.prepare, [source] * FRAMES)),
            "colors": lambda: [list(canvas.threads.map(canvas.finish, decoded, clip)) for _ in range(NEXT)],
        },
        lambda: [list(shot.push(source)) for _ in range(FRAMES)],
    )
