"""Runs of the same chunks of video on PyTorch and on ONNX Runtime, with all intermediate results."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from upres.engine.models.flashvsr.networks import FIRST, NEXT, Decoder, Projector, Transformer
from upres.engine.runtime.base import cpus
from upres.engine.runtime.ort_at_once import GraphAtOnce
from upres.engine.runtime.ring.at_once import HostArray
from upres.engine.runtime.ring.device import Bound
from upres.engine.runtime.ring.resident import Resident
from upres.export.flashvsr.graphs.attention import Attention
from upres.export.flashvsr.weights.torch_tensors import OneByOne, read_all
from upres.export.flashvsr.weights.weight_set import WeightSet
from upres.export.weights.tensors import Array

from . import reference
from .golden import Golden

Step = tuple[slice, list[Array], Array]
"""The latent frames, the projector's clips of four frames, and the frames that the decoder is conditioned on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of one chunk.

    masks: kept, probability, threshold of every layer. keys: of the last layer, original channels. frames: (n, 3, H, W).
    """

    tokens: Array
    clean: Array
    masks: list[tuple[Array, Array, Array]]
    keys: Array
    frames: Array


def run_torch(weights: WeightSet, golden: Golden, attention: Attention) -> list[Outcome]:
    """Run PyTorch in float32: the projector on all chunks, then the transformer, then the decoder, keeping one layer in memory."""
    c, steps = weights.configuration, list(_steps(golden))
    projector = reference.Projector(OneByOne(weights.lq), weights.version)
    projector(_signed(golden.frames[:1].repeat(4, 0)))
    tokens = [torch.cat([projector(_signed(clip)) for clip in clips], 1) for _, clips, _ in steps]
    prompt = torch.from_numpy(np.asarray(weights.prompt, np.float32))
    transformer = reference.Transformer(OneByOne(weights.dit), prompt, c, attention)
    results = []
    for (latents, _, _), part in zip(steps, tokens, strict=True):
        clean = transformer(torch.from_numpy(golden.noise[:, :, latents]), part)
        masks = [(m.kept.numpy(), m.probability.numpy(), m.threshold.numpy()) for m in transformer.masks]
        results.append((clean, masks, transformer.keys(c.layers - 1).numpy()))
    decoder = reference.Decoder(read_all(weights.tc))
    outcomes = []
    for (_, _, frames), part, (clean, masks, keys) in zip(steps, tokens, results, strict=True):
        decoded = [
            decoder(clean[:, :, at : at + 1], _signed(frames[4 * at : 4 * at + 4])) for at in range(clean.shape[2])
        ]
        outcomes.append(Outcome(part.numpy(), clean.numpy(), masks, keys, torch.cat(decoded).numpy() * 2 - 1))
    return outcomes


def run_onnx(weights: WeightSet, golden: Golden, folder: Path) -> list[Outcome]:
    """Run the graphs in a folder on ONNX Runtime, one part after the other on all chunks; with masks and keys if probed."""
    c, (height, width), steps = weights.configuration, golden.frames.shape[1:3], list(_steps(golden))
    tokens = _project_onnx(golden, folder, steps)
    first, following = (_load(folder / f"{name}-{height}x{width}.onnx") for name in ("first", "next"))
    transformer = Transformer(first, following, c.head_dim)
    results = []
    for (latents, _, _), part in zip(steps, tokens, strict=True):
        with closing(Resident(following)) as resident:
            results.append(transformer.push(golden.noise[:, :, latents], resident.upload(part), latents.start))
        if latents.start == 0:
            first.close()  # two graphs that map the same file keep its pages twice
    following.close()
    decoder = Decoder(_load(folder / "decoder.onnx"), height, width)
    decoder.start()
    outcomes = []
    for (_, _, frames), part, outputs in zip(steps, tokens, results, strict=True):
        clean, conditions = outputs["clean"][0].transpose(1, 0, 2, 3), frames.reshape(-1, 4, *frames.shape[1:])
        decoded = np.concatenate(
            [decoder.push(latent[None], four).copy() for latent, four in zip(clean, conditions, strict=True)]
        )
        keys = outputs.get("keys", np.empty(0, np.float32)).reshape(-1, c.heads, 2, c.head_dim // 2).swapaxes(2, 3)
        cached = keys.reshape(-1, 128, c.dim)[-height * width // 128**2 * 3 :]
        outcomes.append(Outcome(part, outputs["clean"], _masks(outputs, c.layers), cached, decoded))
    return outcomes


def _steps(golden: Golden) -> Iterator[Step]:
    """Split a reference into chunks."""
    padded = np.concatenate([golden.frames[:1]] * 3 + [golden.frames])
    start, total = 0, golden.noise.shape[2]
    while start < total:
        count = FIRST if start == 0 else NEXT
        clips = [golden.frames[4 * latent + 1 : 4 * latent + 5] for latent in range(start, start + count)]
        yield slice(start, start + count), clips, padded[4 * start : 4 * (start + count)]
        start += count


def _project_onnx(golden: Golden, folder: Path, steps: list[Step]) -> list[Array]:
    """Project the frames of every chunk to tokens."""
    height, width = golden.frames.shape[1:3]
    projector = Projector(_load(folder / "projector.onnx"), height, width)
    projector.start(golden.frames[0])
    return [np.concatenate([_read(projector.push(clip)) for clip in clips], 1) for _, clips, _ in steps]


def _load(path: Path) -> GraphAtOnce:
    return GraphAtOnce(path, cpus(), mapped=True)


def _read(bound: Bound) -> Array:
    """Copy a tensor from the device, which is the host here."""
    assert isinstance(bound.memory, HostArray)
    return bound.memory.array.view(bound.spec.dtype).reshape(bound.spec.shape).copy()


def _masks(outputs: dict[str, Array], layers: int) -> list[tuple[Array, Array, Array]]:
    """Return the masks from the outputs of a graph that was written with probes; empty for other graphs."""
    probed = range(layers if "keys" in outputs else 0)
    return [(outputs[f"mask{n}"], outputs[f"probability{n}"], outputs[f"threshold{n}"][..., 0]) for n in probed]


def _signed(frames: Array) -> torch.Tensor:
    """Convert (n, H, W, 3) uint8 to (1, 3, n, H, W) in [-1, 1]."""
    return torch.from_numpy(frames.transpose(3, 0, 1, 2)[None].astype(np.float32) / 127.5 - 1)
