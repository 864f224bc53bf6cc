"""FlashVSR against numeric references of the public implementation: PyTorch and ONNX Runtime, chunk by chunk."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError
from upres.engine.models.flashvsr.color import match_colour
from upres.engine.models.flashvsr.networks import FIRST, NEXT, Decoder, Projector, Transformer, rotation
from upres.engine.runtime.base import OnnxRuntimeGraph, OpenVINOGraph, cpus

from . import reference
from .attention import Attention
from .export import Settings, write_graphs
from .tensors import OneByOne, tensors
from .weights import WeightSet

Array = NDArray[Any]
Step = tuple[slice, list[Array], Array]
LATENT_TOLERANCE = 1e-5  # of the largest value
FRAME_TOLERANCE = 1e-4  # on [-1, 1]
TIE = 1e-6  # a block this near its threshold, of the threshold, may fall on either side


@dataclass(frozen=True, slots=True)
class Golden:
    """A numeric reference. frames: (F, H, W, 3) uint8, the low-quality video at output size. noise: (1, 16, n, H/8, W/8)."""

    frames: Array
    noise: Array
    topk_ratio: float
    local_range: int
    expected: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one chunk gave. masks: kept, probability, threshold of every layer. keys: of the last layer, original channels."""

    tokens: Array
    clean: Array
    masks: list[tuple[Array, Array, Array]]
    keys: Array
    pictures: Array


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one value is from the reference, and how far it may be. note: what else is known about it."""

    name: str
    value: float
    tolerance: float
    note: str = ""

    @property
    def passes(self) -> bool:
        """Whether it is within tolerance; not a number is not."""
        return self.value <= self.tolerance


def read_golden(path: Path) -> Golden:
    """Read a reference; its frames pan over one still, a row down and two columns right a frame."""
    try:
        with np.load(path) as file:
            values = {key: file[key] for key in file.files}
        still, noise = values["pano_u8"], values["noise"]
        height, width = noise.shape[3] * 8, noise.shape[4] * 8
        count = still.shape[1] - height
        frames = np.stack([still[:, t : t + height, 2 * t : 2 * t + width].transpose(1, 2, 0) for t in range(count)])
        return Golden(frames, noise, float(values["topk_ratio"]), int(values["local_range"]), values)
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is not a FlashVSR reference: {error}") from error


def read_heads(path: Path) -> int:
    """The number of attention heads of the references' configuration."""
    try:
        return int(json.loads(path.read_text())["tiny"]["num_heads"])
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path} does not describe a FlashVSR configuration: {error}") from error


def compare(weights: WeightSet, golden: Golden, folder: Path) -> Iterator[Difference]:
    """Run PyTorch, then ONNX Runtime on graphs written into the folder; gives every difference from the reference."""
    rows, columns = golden.noise.shape[3] * 8, golden.noise.shape[4] * 8
    settings = Settings(
        profiles=((rows, columns),), local_range=golden.local_range, topk_ratio=golden.topk_ratio, probe=True
    )
    with torch.inference_mode():
        yield from _differences("torch", run_torch(weights, golden, settings.attention(rows, columns)), golden)
    write_graphs(weights, folder, settings)
    yield from _differences("onnx", run_onnx(weights, golden, folder), golden)


def compare_export(weights: WeightSet, folder: Path, settings: Settings) -> dict[str, float]:
    """The largest differences of exported graphs from PyTorch over three chunks of noise, relative to the largest value.

    ONNX Runtime's CPU provider does not compute in bfloat16: of such an export, the first step is run on OpenVINO.
    """
    height, width = min(settings.profiles, key=lambda size: size[0] * size[1])
    draw = np.random.Generator(np.random.Philox(0))
    frames = draw.integers(0, 256, (41, height // 16, width // 16, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    noise = draw.standard_normal((1, 16, 10, height // 8, width // 8), np.float32)
    golden = Golden(frames, noise, 0, settings.local_range, {})
    with torch.inference_mode():
        expected = run_torch(weights, golden, settings.attention(height, width))
    if settings.precision == "bf16":
        graph = OpenVINOGraph(folder / f"first-{height}x{width}.onnx", "exact", cpus())
        cos, sin = rotation(0, (FIRST, height // 16, width // 16), weights.configuration.head_dim)
        feeds = {"noise": noise[:, :, :FIRST], "tokens": expected[0].tokens, "cos": cos, "sin": sin}
        return {"clean": _relative(graph.run(feeds)["clean"], expected[0].clean)}
    worst = {"tokens": 0.0, "clean": 0.0, "pictures": 0.0}
    for outcome, wanted in zip(run_onnx(weights, golden, folder), expected, strict=True):
        for name in worst:
            worst[name] = max(worst[name], _relative(getattr(outcome, name), getattr(wanted, name)))
    return worst


def _steps(golden: Golden) -> Iterator[Step]:
    """Per chunk: the latent frames, the projector's clips of four frames, and the frames the decoder is conditioned on."""
    padded = np.concatenate([golden.frames[:1]] * 3 + [golden.frames])
    start, total = 0, golden.noise.shape[2]
    while start < total:
        count = FIRST if start == 0 else NEXT
        clips = [golden.frames[4 * latent + 1 : 4 * latent + 5] for latent in range(start, start + count)]
        yield slice(start, start + count), clips, padded[4 * start : 4 * (start + count)]
        start += count


def run_torch(weights: WeightSet, golden: Golden, attention: Attention) -> list[Outcome]:
    """Run PyTorch in float32: the projector over all chunks, then the transformer, then the decoder; a layer's memory is enough."""
    c, steps = weights.configuration, list(_steps(golden))
    projector = reference.Projector(OneByOne(weights.lq), weights.version)
    projector(_signed(golden.frames[:1].repeat(4, 0)))
    tokens = [torch.cat([projector(_signed(clip)) for clip in clips], 1) for _, clips, _ in steps]
    prompt = torch.from_numpy(np.asarray(weights.prompt, np.float32))
    transformer = reference.Transformer(OneByOne(weights.dit), prompt, c, attention)
    made = []
    for (latents, _, _), part in zip(steps, tokens, strict=True):
        clean = transformer(torch.from_numpy(golden.noise[:, :, latents]), part)
        masks = [(m.kept.numpy(), m.probability.numpy(), m.threshold.numpy()) for m in transformer.masks]
        made.append((clean, masks, transformer.keys(c.layers - 1).numpy()))
    decoder = reference.Decoder(tensors(weights.tc))
    outcomes = []
    for (_, _, frames), part, (clean, masks, keys) in zip(steps, tokens, made, strict=True):
        pictures = [
            decoder(clean[:, :, at : at + 1], _signed(frames[4 * at : 4 * at + 4])) for at in range(clean.shape[2])
        ]
        outcomes.append(Outcome(part.numpy(), clean.numpy(), masks, keys, torch.cat(pictures).numpy() * 2 - 1))
    return outcomes


def run_onnx(weights: WeightSet, golden: Golden, folder: Path) -> list[Outcome]:
    """Run the graphs in a folder on ONNX Runtime, one part after the other over all chunks; masks and keys where probed."""
    c, (height, width), steps = weights.configuration, golden.frames.shape[1:3], list(_steps(golden))
    tokens = _project_onnx(golden, folder, steps)
    first, following = (
        OnnxRuntimeGraph(folder / f"{name}-{height}x{width}.onnx", cpus(), mapped=True) for name in ("first", "next")
    )
    transformer = Transformer(first, following, c.head_dim)
    given = [transformer.push(golden.noise[:, :, :FIRST], tokens[0], 0)]
    first.close()  # two graphs over one file have its pages twice
    for (latents, _, _), part in zip(steps[1:], tokens[1:], strict=True):
        given.append(transformer.push(golden.noise[:, :, latents], part, latents.start))
    following.close()
    decoder = Decoder(OnnxRuntimeGraph(folder / "decoder.onnx", cpus(), mapped=True), height, width)
    decoder.start()
    outcomes = []
    for (_, _, frames), part, outputs in zip(steps, tokens, given, strict=True):
        pictures = decoder.push(outputs["clean"][0].transpose(1, 0, 2, 3), frames)
        keys = outputs.get("keys", np.empty(0, np.float32)).reshape(-1, c.heads, 2, c.head_dim // 2).swapaxes(2, 3)
        cached = keys.reshape(-1, 128, c.dim)[-height * width // 128**2 * 3 :]
        outcomes.append(Outcome(part, outputs["clean"], _masks(outputs, c.layers), cached, pictures))
    return outcomes


def _project_onnx(golden: Golden, folder: Path, steps: list[Step]) -> list[Array]:
    """The tokens of every chunk."""
    height, width = golden.frames.shape[1:3]
    projector = Projector(OnnxRuntimeGraph(folder / "projector.onnx", cpus(), mapped=True), height, width)
    projector.start(golden.frames[0])
    return [np.concatenate([projector.push(clip) for clip in clips], 1) for _, clips, _ in steps]


def _masks(outputs: dict[str, Array], layers: int) -> list[tuple[Array, Array, Array]]:
    """The masks of a graph that was written with probes."""
    probed = range(layers if "keys" in outputs else 0)
    return [(outputs[f"mask{n}"], outputs[f"probability{n}"], outputs[f"threshold{n}"][..., 0]) for n in probed]


def _differences(name: str, outcomes: list[Outcome], golden: Golden) -> Iterator[Difference]:
    pictures = []
    for chunk, outcome in enumerate(outcomes):
        for key, value in (("lq", outcome.tokens), ("clean", outcome.clean), ("cache_k_last", outcome.keys)):
            if (expected := golden.expected.get(f"c{chunk}.{key}")) is not None:
                yield Difference(f"{name} c{chunk}.{key}", _relative(value, expected), LATENT_TOLERANCE)
        if (mask := golden.expected.get(f"c{chunk}.mask")) is not None:
            yield _mask_difference(f"{name} c{chunk}.mask", outcome.masks, mask)
        pictures.append(outcome.pictures)
    if "out" in golden.expected:
        shown, index = np.concatenate(pictures)[3:], golden.expected["out_index"]
        matched = np.stack([match_colour(shown[at], golden.frames[at]) for at in index]).transpose(3, 0, 1, 2)
        worst = float(np.abs(matched - golden.expected["out"]).max())
        yield Difference(f"{name} out", worst, FRAME_TOLERANCE, f"{len(shown)} frames made, {len(index)} compared")


def _mask_difference(name: str, masks: list[tuple[Array, Array, Array]], expected: Array) -> Difference:
    """Blocks that are kept here and not there or the reverse, other than those that tie with their threshold."""
    flipped = ties = 0
    for (kept, probability, threshold), wanted in zip(masks, expected, strict=True):
        wrong = kept != wanted
        limit = np.repeat(threshold, kept.shape[1] // threshold.shape[1], 1)[..., None]
        tied = wrong & (np.abs(probability - limit) <= TIE * limit)
        flipped, ties = flipped + int(wrong.sum()), ties + int(tied.sum())
    return Difference(name, flipped - ties, 0, f"{flipped} of {expected.size} blocks flipped, {ties} of them ties")


def _relative(value: Array, expected: Array) -> float:
    if value.shape != expected.shape:
        return float("inf")
    return float(np.abs(value - expected).max() / np.abs(expected).max())


def _signed(frames: Array) -> torch.Tensor:
    """(n, H, W, 3) uint8 to (1, 3, n, H, W) in [-1, 1]."""
    return torch.from_numpy(frames.transpose(3, 0, 1, 2)[None].astype(np.float32) / 127.5 - 1)
