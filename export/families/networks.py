"""SRVGGNetCompact and RRDBNet as ONNX graphs, from their tensors."""

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError
from upres.export.graphs.writer import GraphWriter

from .architecture import RRDB, SRVGG, Architecture, Tensors

Reals = NDArray[np.float64]
LEAK = 0.2
RESIDUAL = 0.2
HALF_BICUBIC = (-0.09375, 0.59375, 0.59375, -0.09375)
"""Keys' cubic with a = -0.75 half-way between two pixels: what ncnn and PyTorch use to halve a picture."""


def write(tensors: Tensors, architecture: Architecture, scale: int, name: str) -> bytes:
    """The network as an ONNX file that enlarges by this scale.

    The scale is the architecture's own or, for SRVGGNetCompact at 4, the half of it: the picture it makes, halved bicubically.
    Raises ModelError for another scale.
    """
    if scale == architecture.scale:
        return (
            _srvgg(tensors, architecture, name)
            if isinstance(architecture, SRVGG)
            else _rrdb(tensors, architecture, name)
        )
    if isinstance(architecture, SRVGG) and (architecture.scale, scale) == (4, 2):
        return _halved_srvgg(tensors, architecture, name)
    raise ModelError(f"{name} enlarges by {scale}, but these weights are {architecture}")


def _srvgg(tensors: Tensors, net: SRVGG, name: str) -> bytes:
    writer = GraphWriter(name, net.scale)
    frame = writer.frame()
    x, last = _trunk(writer, frame, tensors, net)
    x = writer.conv(x, last, tensors[f"{last}.weight"], tensors[f"{last}.bias"])
    # Adding before the shuffle spares a picture of floats at the full size; one-hot weights repeat each pixel.
    repeat = np.repeat(np.eye(3), net.scale**2, axis=0)[:, :, None, None]
    x = writer.levels(writer.op("Add", x, writer.conv(frame, "repeat", repeat)))
    return writer.model(writer.op("DepthToSpace", x, blocksize=net.scale, mode="CRD"))


def _halved_srvgg(tensors: Tensors, net: SRVGG, name: str) -> bytes:
    """The last convolution, the shuffle, the addition and the halving are linear: they fold into two convolutions."""
    writer = GraphWriter(name, 2)
    frame = writer.frame()
    x, last = _trunk(writer, frame, tensors, net)
    repeat = np.repeat(np.eye(3), net.scale**2, axis=0)[:, :, None, None]
    bias = tensors[f"{last}.bias"].astype(np.float64)[:, None, None, None]
    # A constant stays what it is under the halving, so the bias goes through it as a kernel of one pixel and is summed up.
    bias = _halve(bias).sum(axis=(1, 2, 3))
    x = writer.conv(x, last, _halve(tensors[f"{last}.weight"].astype(np.float64)), bias)
    x = writer.levels(writer.op("Add", x, writer.conv(frame, "repeat", _halve(repeat))))
    return writer.model(writer.op("DepthToSpace", x, blocksize=2, mode="CRD"))


def _halve(kernel: Reals) -> Reals:
    """Fold a shuffle by 4 and a bicubic halving into the convolution before them.

    kernel: (3·16, inputs, k, k) becomes (3·4, inputs, k + 2, k + 2). Pixel o of 2 lies between the pixels 2o and 2o + 1 of 4;
    its four taps are those from 2o - 1 to 2o + 2, which may belong to the pixel before or after.
    """
    _, inputs, size, _ = kernel.shape
    parts = kernel.reshape(3, 4, 4, inputs, size, size)
    folded = np.zeros((3, 2, 2, inputs, size + 2, size + 2))
    taps = [(o, divmod(2 * o + tap - 1, 4), weight) for o in (0, 1) for tap, weight in enumerate(HALF_BICUBIC)]
    for row, (down, part_row), row_weight in taps:
        for column, (right, part_column), column_weight in taps:
            window = folded[:, row, column, :, 1 + down : 1 + down + size, 1 + right : 1 + right + size]
            window += row_weight * column_weight * parts[:, part_row, part_column]
    return folded.reshape(12, inputs, size + 2, size + 2)


def _trunk(writer: GraphWriter, x: str, tensors: Tensors, net: SRVGG) -> tuple[str, str]:
    """All but the last convolution; gives its output and the name of the convolution that is left."""
    for index in range(0, 2 * net.convs + 2, 2):
        x = writer.conv(x, f"body.{index}", tensors[f"body.{index}.weight"], tensors[f"body.{index}.bias"])
        slope = f"body.{index + 1}.weight"
        x = writer.op("PRelu", x, writer.constant(slope, tensors[slope].reshape(-1, 1, 1)))
    return x, f"body.{2 * net.convs + 2}"


def _rrdb(tensors: Tensors, net: RRDB, name: str) -> bytes:
    writer = GraphWriter(name, net.scale)
    x = writer.frame()
    if net.scale == 2:
        x = writer.op("SpaceToDepth", x, blocksize=2)
        tensors = tensors | {"conv_first.weight": _block_major(tensors["conv_first.weight"])}
    first = x = _conv(writer, x, tensors, "conv_first")
    for block in range(net.blocks):
        before = x
        for dense in (1, 2, 3):
            x = _dense(writer, x, tensors, f"body.{block}.rdb{dense}")
        x = writer.op("Add", writer.op("Mul", x, writer.real(RESIDUAL)), before)
    x = writer.op("Add", first, _conv(writer, x, tensors, "conv_body"))
    for conv in ("conv_up1", "conv_up2"):
        x = _leaky(writer, _conv(writer, writer.nearest(x, 2), tensors, conv))
    x = _leaky(writer, _conv(writer, x, tensors, "conv_hr"))
    return writer.model(writer.levels(_conv(writer, x, tensors, "conv_last")))


def _dense(writer: GraphWriter, x: str, tensors: Tensors, prefix: str) -> str:
    """A residual dense block: each convolution sees the input and all that was made before it."""
    made = [x]
    for conv in range(1, 5):
        seen = writer.op("Concat", *made, axis=1) if len(made) > 1 else x
        made.append(_leaky(writer, _conv(writer, seen, tensors, f"{prefix}.conv{conv}")))
    last = _conv(writer, writer.op("Concat", *made, axis=1), tensors, f"{prefix}.conv5")
    return writer.op("Add", writer.op("Mul", last, writer.real(RESIDUAL)), x)


def _conv(writer: GraphWriter, x: str, tensors: Tensors, name: str) -> str:
    return writer.conv(x, name, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _leaky(writer: GraphWriter, x: str) -> str:
    return writer.op("LeakyRelu", x, alpha=LEAK)


def _block_major(weight: NDArray[np.generic]) -> NDArray[np.generic]:
    """From PyTorch's order of a pixel unshuffle (colour, row, column) to that of ONNX's SpaceToDepth (row, column, colour)."""
    outputs, inputs, height, width = weight.shape
    parts = weight.reshape(outputs, inputs // 4, 4, height, width)
    return parts.transpose(0, 2, 1, 3, 4).reshape(weight.shape)
