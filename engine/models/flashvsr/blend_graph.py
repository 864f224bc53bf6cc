"""ONNX graph that blends the latents of tiles, generated for one layout."""

from collections.abc import Sequence

import numpy as np

from upres.engine.graphs import parts as onnx_parts
from upres.engine.graphs.nodes import Nodes
from upres.engine.graphs.onnx_pb2 import TensorProto

from .networks import LATENT
from .tiles import LATENT_PIXELS, Layout, Tile


def part_name(frame: int, part: int) -> str:
    """Return the name of the output for a part of a latent frame."""
    return f"latents.{frame}.{part}"


def blending(layout: Layout, parts: Sequence[Tile], count: int) -> bytes:
    """Return the graph that weights `count` latent frames of every tile, adds them in the tiles' order and cuts the sum into parts.

    Inputs clean.0 …: latents of the tiles, (1, 16, count, H/8, W/8) float32. Outputs latents.F.P: frame F in part P,
    (1, 16, H/8, W/8). Output doubt: (1,), 0 if all latents are finite, NaN otherwise.
    """
    graph = Nodes()
    whole = graph.add("Pad", *_weighed(graph, layout, 0))
    for number in range(1, len(layout.tiles)):
        whole = graph.add("Add", whole, graph.add("Pad", *_weighed(graph, layout, number)))
    flat = graph.add("Reshape", graph.add("Mul", whole, graph.constant(np.float32(0))), graph.constant(np.array([-1])))
    graph.add("ReduceSum", flat, name="doubt")
    outputs: dict[str, Sequence[int]] = {"doubt": [1]}
    for at in range(count):
        frame = graph.add("Gather", whole, graph.constant(np.array(at)), axis=2)
        for number, part in enumerate(parts):
            edges = (part.top, part.left), (part.top + part.height, part.left + part.width)
            bounds = (graph.constant(np.array(edge) // LATENT_PIXELS) for edge in edges)
            graph.add("Slice", frame, *bounds, graph.constant(np.array([2, 3])), name=part_name(at, number))
            outputs[part_name(at, number)] = 1, LATENT, part.height // LATENT_PIXELS, part.width // LATENT_PIXELS
    side = layout.profile.height // LATENT_PIXELS, layout.profile.width // LATENT_PIXELS
    inputs = {f"clean.{tile}": (1, LATENT, count, *side) for tile in range(len(layout.tiles))}
    input_values, output_values = (
        [onnx_parts.value(name, TensorProto.FLOAT, shape) for name, shape in each.items()] for each in (inputs, outputs)
    )
    return graph.file("blend", input_values, output_values)


def _weighed(graph: Nodes, layout: Layout, number: int) -> tuple[str, str, str]:
    """Return a tile's weighted latents, the widths of the padding around it within the frame, and the padding's value."""
    tile, share = layout.tiles[number], layout.shares()[number]
    beyond = layout.height - tile.top - tile.height, layout.width - tile.left - tile.width
    pads = np.array([0, 0, 0, tile.top, tile.left, 0, 0, 0, *beyond]) // LATENT_PIXELS
    weighed = graph.add("Mul", f"clean.{number}", graph.constant(share))
    return weighed, graph.constant(pads), graph.constant(np.float32(0))
