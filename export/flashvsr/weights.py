"""FlashVSR's weights: which tensors there are, under the original keys, and where they come from. Computes nothing with them.

The keys and shapes are those of the public v1 and v1.1 releases (Apache-2.0, arXiv 2510.12747), Tiny pipeline.
"""

import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError

Array = NDArray[Any]
Tensors = Mapping[str, Array]
Shapes = dict[str, tuple[int, ...]]
Version = Literal["v1.1", "v1"]
UNSHUFFLED = 768  # channels of RGB after a 16x16 pixel-unshuffle, or of 4 frames after an 8x8 one
LATENT = 16
TIMESTEP = 1000.0  # of the one diffusion step


@dataclass(frozen=True, slots=True)
class Configuration:
    """The sizes of one FlashVSR.

    dim, heads, layers, ffn: of the diffusion transformer (DiT). text_dim: of a prompt token. freq_dim: of the time embedding.
    projector: channels of the LQ projector's two convolutions. decoder: channels of the TC decoder's four levels.
    """

    dim: int = 1536
    heads: int = 12
    layers: int = 30
    ffn: int = 8960
    text_dim: int = 4096
    freq_dim: int = 256
    projector: tuple[int, int] = (2048, 3072)
    decoder: tuple[int, int, int, int] = (512, 256, 128, 128)
    eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.dim // self.heads

    def shapes(self) -> dict[str, Shapes]:
        """The shape of every tensor by its original key, for the parts dit, lq and tc."""
        return {"dit": _dit_shapes(self), "lq": _lq_shapes(self), "tc": _tc_shapes(self)}


@dataclass(frozen=True, slots=True)
class WeightSet:
    """All weights of one FlashVSR. prompt: (1, tokens, text_dim), the constant text embedding. origin: trained or random."""

    configuration: Configuration
    dit: Tensors
    lq: Tensors
    tc: Tensors
    prompt: Array
    version: Version = "v1.1"
    origin: Literal["trained", "random"] = "trained"


class LazyTensors(Mapping[str, Array]):
    """Tensors that are made or read when asked for, and know their shapes before."""

    @abstractmethod
    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of the tensor of this key."""


class RandomTensors(LazyTensors):
    """Tensors drawn when asked for, the same for the same seed and key; scaled so that signals keep their size."""

    def __init__(self, shapes: Shapes, seed: int) -> None:
        self._shapes = shapes
        self._seed = seed

    def __getitem__(self, key: str) -> Array:
        """The tensor of this key, float32."""
        shape = self._shapes[key]
        draw = np.random.Generator(np.random.Philox(key=[self._seed, zlib.crc32(key.encode())]))
        values = draw.standard_normal(shape, np.float32)
        if "norm" in key:
            return values * np.float32(0.02) + np.float32(0 if key.endswith("bias") else 1)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 and "modulation" not in key else 2500
        values *= np.float32(fan_in**-0.5)
        return values

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of the tensor of this key."""
        return self._shapes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def random_weights(configuration: Configuration, *, seed: int = 0, prompt_tokens: int = 512) -> WeightSet:
    """Weights that were never trained, for tests and measurements; a fifth of the prompt is text, the rest padding."""
    shapes = configuration.shapes()
    dit, lq, tc = (RandomTensors(shapes[part], seed) for part in ("dit", "lq", "tc"))
    prompt = np.zeros((1, prompt_tokens, configuration.text_dim), np.float32)
    text = max(prompt_tokens // 5, 1)
    prompt[:, :text] = np.random.Generator(np.random.Philox(seed)).standard_normal(prompt[:, :text].shape, np.float32)
    return WeightSet(configuration, dit, lq, tc, prompt, origin="random")


def configuration_of(dit: Tensors, lq: Tensors, tc: Tensors, *, heads: int | None = None) -> Configuration:
    """Read the sizes off the weights; heads: where a head is not 128 channels. ModelError where a tensor it needs is missing."""
    try:
        dim = _shape(dit, "patch_embedding.weight")[0]
        first, second, third, fourth = (_shape(tc, f"decoder.{index}.weight")[0] for index in (1, 10, 16, 22))
        return Configuration(
            dim=dim,
            heads=heads or dim // 128,
            layers=len({key.split(".")[1] for key in dit if key.startswith("blocks.")}),
            ffn=_shape(dit, "blocks.0.ffn.0.weight")[0],
            text_dim=_shape(dit, "text_embedding.0.weight")[1],
            freq_dim=_shape(dit, "time_embedding.0.weight")[1],
            projector=(_shape(lq, "conv1.weight")[0], _shape(lq, "conv2.weight")[0]),
            decoder=(first, second, third, fourth),
        )
    except KeyError as error:
        raise ModelError(f"these are not FlashVSR weights: the tensor {error} is missing") from error


def problems(tensors: Tensors, shapes: Shapes, part: str) -> list[str]:
    """Everything that is wrong with the tensors of a part: missing, unknown and misshapen ones, each named."""
    found = [f"{part}: {key} is missing" for key in shapes.keys() - tensors.keys()]
    found += [f"{part}: {key} is unknown" for key in tensors.keys() - shapes.keys()]
    for key in shapes.keys() & tensors.keys():
        if (shape := _shape(tensors, key)) != shapes[key]:
            found.append(f"{part}: {key} is {shape}, expected {shapes[key]}")
    return sorted(found)


def check(weights: WeightSet) -> None:
    """ModelError naming every tensor that is missing, unknown or misshapen."""
    shapes = weights.configuration.shapes()
    found = [line for part in shapes for line in problems(getattr(weights, part), shapes[part], part)]
    if weights.prompt.ndim != 3 or weights.prompt.shape[2] != weights.configuration.text_dim:
        found.append(f"prompt: is {weights.prompt.shape}, expected (1, tokens, {weights.configuration.text_dim})")
    if found:
        raise ModelError(f"{len(found)} problems with the weights of FlashVSR: " + "; ".join(found))


def read_npz(path: Path, *, heads: int | None = None, version: Version = "v1.1") -> WeightSet:
    """Read all parts from one .npz, keys prefixed dit., lq11. (or lq.) and tc., and `context` for the prompt."""
    parts: dict[str, dict[str, Array]] = {"dit": {}, "lq11": {}, "lq": {}, "tc": {}}
    try:
        with np.load(path) as file:
            for key in file.files:
                part, _, name = key.partition(".")
                if part in parts:
                    parts[part][name] = file[key]
            prompt = file["context"]
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path} does not hold FlashVSR weights: {error}") from error
    lq = parts["lq11"] or parts["lq"]
    configuration = configuration_of(parts["dit"], lq, parts["tc"], heads=heads)
    weights = WeightSet(configuration, parts["dit"], lq, parts["tc"], prompt, version, "random")
    check(weights)
    return weights


def _shape(tensors: Tensors, key: str) -> tuple[int, ...]:
    return tensors.shape(key) if isinstance(tensors, LazyTensors) else tuple(tensors[key].shape)


def _dit_shapes(c: Configuration) -> Shapes:
    shapes: Shapes = {
        "patch_embedding.weight": (c.dim, LATENT, 1, 2, 2),
        "patch_embedding.bias": (c.dim,),
        "head.head.weight": (LATENT * 4, c.dim),
        "head.head.bias": (LATENT * 4,),
        "head.modulation": (1, 2, c.dim),
    }
    for name, outputs, inputs in (
        ("text_embedding.0", c.dim, c.text_dim),
        ("text_embedding.2", c.dim, c.dim),
        ("time_embedding.0", c.dim, c.freq_dim),
        ("time_embedding.2", c.dim, c.dim),
        ("time_projection.1", 6 * c.dim, c.dim),
    ):
        shapes |= _linear(name, outputs, inputs)
    for block in (f"blocks.{index}" for index in range(c.layers)):
        shapes[f"{block}.modulation"] = (1, 6, c.dim)
        for attention in (f"{block}.self_attn", f"{block}.cross_attn"):
            for name in "qkvo":
                shapes |= _linear(f"{attention}.{name}", c.dim, c.dim)
            shapes |= {f"{attention}.norm_q.weight": (c.dim,), f"{attention}.norm_k.weight": (c.dim,)}
        shapes |= {f"{block}.norm3.weight": (c.dim,), f"{block}.norm3.bias": (c.dim,)}
        shapes |= _linear(f"{block}.ffn.0", c.ffn, c.dim) | _linear(f"{block}.ffn.2", c.dim, c.ffn)
    return shapes


def _lq_shapes(c: Configuration) -> Shapes:
    first, second = c.projector
    return {
        "conv1.weight": (first, UNSHUFFLED, 4, 3, 3),
        "conv1.bias": (first,),
        "norm1.gamma": (first, 1, 1, 1),
        "conv2.weight": (second, first, 4, 3, 3),
        "conv2.bias": (second,),
        "norm2.gamma": (second, 1, 1, 1),
    } | _linear("linear_layers.0", c.dim, second)


def _tc_shapes(c: Configuration) -> Shapes:
    a, b, d, e = c.decoder
    shapes: Shapes = {
        "decoder.1.weight": (a, UNSHUFFLED + LATENT, 3, 3),
        "decoder.1.bias": (a,),
        "decoder.3.weight": (a, a, 3, 3),
        "decoder.9.conv.weight": (a, a, 1, 1),
        "decoder.10.weight": (b, a, 3, 3),
        "decoder.15.conv.weight": (2 * b, b, 1, 1),
        "decoder.16.weight": (d, b, 3, 3),
        "decoder.21.conv.weight": (2 * d, d, 1, 1),
        "decoder.22.weight": (e, d, 3, 3),
        "decoder.24.weight": (e, e, 3, 3),
        "decoder.26.weight": (3, e, 3, 3),
        "decoder.26.bias": (3,),
    }
    for channels, indices in ((a, (5, 6, 7)), (b, (11, 12, 13)), (d, (17, 18, 19))):
        for index in indices:
            for layer, inputs in ((0, 2 * channels), (2, channels), (4, channels)):
                shapes[f"decoder.{index}.conv.{layer}.weight"] = (channels, inputs, 3, 3)
                shapes[f"decoder.{index}.conv.{layer}.bias"] = (channels,)
    return shapes


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
