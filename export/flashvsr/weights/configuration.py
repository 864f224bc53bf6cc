"""The sizes of a FlashVSR model, and the resulting shape of every tensor.

Keys and shapes are those of the public v1 and v1.1 releases (Apache-2.0, arXiv 2510.12747), Tiny pipeline.
"""

from dataclasses import dataclass

from upres.engine.models.flashvsr.networks import LATENT
from upres.export.weights.tensors import Shapes

UNSHUFFLED = 768  # channels of RGB after a 16x16 pixel unshuffle, or of 4 frames after an 8x8 one
TIMESTEP = 1000.0  # of the one diffusion step


@dataclass(frozen=True, slots=True)
class Configuration:
    """The sizes of a FlashVSR model; by default those of the release.

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
        """Return the shape of every tensor by its original key, for the parts dit, lq and tc."""
        return {"dit": _dit_shapes(self), "lq": _lq_shapes(self), "tc": _tc_shapes(self)}


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
