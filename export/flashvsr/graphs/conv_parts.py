"""ONNX graphs of FlashVSR's two convolutional parts, the LQ projector and the TC decoder, for frames of any size.

Time is folded into channels (projector) or is the batch axis (decoder), so neither needs a 3D convolution. Unshuffled
channels are in SpaceToDepth's order, and the weights of the first layers are permuted to match.
"""

import numpy as np

from upres.engine.models.flashvsr.networks import CLIP, LATENT
from upres.export.flashvsr.weights.configuration import UNSHUFFLED
from upres.export.flashvsr.weights.weight_set import Part, WeightSet
from upres.export.graphs.external_writer import ExternalGraphWriter
from upres.export.weights.tensors import Array

FLOAT = np.dtype(np.float32)
BYTE = np.dtype(np.uint8)


def write_projector(graph: ExternalGraphWriter, weights: WeightSet) -> None:
    """Write the LQ projector, which converts four frames to the tokens of one latent frame.

    In: frames (4, H, W, 3) uint8. Out: tokens (1, H/16 * W/16, dim) float32. State, v1.1 only: unshuffled (2, 768, H/16, W/16)
    and features (2, C, H/16, W/16), each `.past.0` in and `.new.0` out. The initial state of a shot is the state after its
    first frame is pushed twice as a clip of four.
    """
    g, c, w = graph, weights.configuration, weights.lq
    frames = g.input("frames", BYTE, (CLIP, "H", "W", 3))
    x = g.cast(g.op("SpaceToDepth", _signed(g, frames), blocksize=16), g.dtype)
    order = _depth_order(16, 3)
    for index, (name, inputs, size) in enumerate(
        (("unshuffled", UNSHUFFLED, CLIP), ("features", c.projector[0], 2)), 1
    ):
        weight = w[f"conv{index}.weight"] if index == 2 else w["conv1.weight"][:, order]
        last = g.slice(x, size - 2, size, 0)
        past = last
        if weights.version == "v1.1":
            shape = (2, inputs, "H/16", "W/16")
            past = g.input(f"{name}.past.0", g.dtype, shape)
            g.output(last, f"{name}.new.0", g.dtype, shape)
        seen = g.concat([past, x], 0)
        steps = [g.reshape(g.slice(seen, at, at + CLIP, 0), 1, CLIP * inputs, 0, 0) for at in range(0, size, 2)]
        folded = np.ascontiguousarray(weight.transpose(0, 2, 1, 3, 4)).reshape(len(weight), CLIP * inputs, 3, 3)
        padded = g.op("Pad", g.concat(steps, 0), g.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="edge")
        y = g.op("Conv", padded, g.constant(folded, g.dtype), g.constant(w[f"conv{index}.bias"], g.dtype))
        x = g.cast(_normalized(g, g.cast(y, FLOAT), w[f"norm{index}.gamma"]), g.dtype)
    rows = g.reshape(g.transpose(x, 0, 2, 3, 1), 1, -1, c.projector[1])
    linear = g.op("MatMul", rows, g.constant(w["linear_layers.0.weight"].T, g.dtype))
    tokens = g.op("Add", linear, g.constant(w["linear_layers.0.bias"], g.dtype))
    g.output(g.cast(tokens, FLOAT), "tokens", FLOAT, (1, "H*W/256", c.dim))


def write_decoder(graph: ExternalGraphWriter, weights: WeightSet) -> None:
    """Write the TC decoder, which converts T latent frames to 4T frames.

    In: latents (T, 16, H/8, W/8) float32, frames (4T, H, W, 3) uint8, the low-quality frames of the same times. Out: pictures
    (4T, 3, H, W) float32, about [-1, 1]. State: nine tensors memory{n} (1, C, H/r, W/r), `.past.0` in and `.new.0` out, zero
    at a shot's start.
    """
    g, w = graph, weights.tc
    latents = g.input("latents", FLOAT, ("T", LATENT, "H/8", "W/8"))
    frames = g.input("frames", BYTE, ("4*T", "H", "W", 3))
    unshuffled = g.op("SpaceToDepth", _signed(g, frames), blocksize=8)
    condition = g.reshape(unshuffled, -1, UNSHUFFLED, 0, 0)
    x = g.op("Tanh", g.op("Div", g.concat([condition, latents], 1), g.scalar(3)))
    x = g.cast(g.op("Mul", x, g.scalar(3)), g.dtype)
    # The release orders a clip's channels by color, frame, row, column; here the order is frame, then SpaceToDepth's.
    order = np.arange(UNSHUFFLED).reshape(3, CLIP, 64).transpose(1, 2, 0).reshape(-1)
    order = np.concatenate([order, UNSHUFFLED + np.arange(LATENT)])
    x = g.op("Relu", _convolved(g, w, "decoder.1", x, order))
    x = g.op("Relu", _convolved(g, w, "decoder.3", x))
    for first, growth, conv, reduction in ((5, 9, 10, 8), (11, 15, 16, 4), (17, 21, 22, 2)):
        for index in (first, first + 1, first + 2):
            x = _memory_block(g, w, index, x, reduction)
        x = g.op(
            "Resize",
            x,
            "",
            g.constant(np.array([1, 1, 2, 2], np.float32)),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        x = g.op("Conv", x, g.constant(w[f"decoder.{growth}.conv.weight"], g.dtype))
        x = _convolved(g, w, f"decoder.{conv}", g.reshape(x, -1, w[f"decoder.{conv}.weight"].shape[1], 0, 0))
    x = g.op("Relu", _convolved(g, w, "decoder.24", g.op("Relu", x)))
    x = g.cast(_convolved(g, w, "decoder.26", x), FLOAT)
    pictures = g.op("Sub", g.op("Mul", x, g.scalar(2)), g.scalar(1))
    g.output(pictures, "pictures", FLOAT, ("4*T", 3, "H", "W"))


def _memory_block(g: ExternalGraphWriter, w: Part, index: int, x: str, reduction: int) -> str:
    """Write a residual block of three convolutions over a step and the step before it; the last step is kept as state."""
    name = f"decoder.{index}.conv"
    channels = len(w[f"{name}.0.bias"])
    shape = (1, channels, f"H/{reduction}", f"W/{reduction}")
    past = g.input(f"memory{index}.past.0", g.dtype, shape)
    g.output(g.slice(x, -1, 1 << 40, 0), f"memory{index}.new.0", g.dtype, shape)
    before = g.slice(g.concat([past, x], 0), 0, -1, 0)
    y = g.op("Relu", _convolved(g, w, f"{name}.0", g.concat([x, before], 1)))
    y = g.op("Relu", _convolved(g, w, f"{name}.2", y))
    return g.op("Relu", g.op("Add", _convolved(g, w, f"{name}.4", y), x))


def _convolved(g: ExternalGraphWriter, w: Part, name: str, x: str, order: Array | None = None) -> str:
    """Write a 3x3 convolution with zero padding. order: the weight's input channels in the order of x."""
    weight = w[f"{name}.weight"]
    constants = [g.constant(weight if order is None else weight[:, order], g.dtype)]
    if f"{name}.bias" in w:
        constants.append(g.constant(w[f"{name}.bias"], g.dtype))
    return g.op("Conv", x, *constants, pads=(1, 1, 1, 1))


def _signed(g: ExternalGraphWriter, frames: str) -> str:
    """Convert (n, H, W, 3) uint8 to (n, 3, H, W) float32 in [-1, 1]."""
    scaled = g.op("Div", g.op("Cast", frames, to=1), g.scalar(127.5))
    return g.transpose(g.op("Sub", scaled, g.scalar(1)), 0, 3, 1, 2)


def _depth_order(size: int, channels: int) -> Array:
    """Return the release's channel (color, row, column) of each channel of SpaceToDepth (row, column, color)."""
    return np.arange(channels * size * size).reshape(channels, size * size).T.reshape(-1)


def _normalized(g: ExternalGraphWriter, x: str, gamma: Array) -> str:
    """Scale each pixel's channels to length sqrt(C) times gamma, then SiLU; in float32, since 3072 squares are summed."""
    scale = g.constant(gamma.reshape(1, -1, 1, 1) * np.float32(len(gamma) ** 0.5))
    length = g.op("Max", g.op("ReduceL2", x, g.ints(1), keepdims=1), g.scalar(1e-12))
    y = g.op("Mul", g.op("Div", x, length), scale)
    return g.op("Mul", y, g.op("Sigmoid", y))
