"""Engines of per-frame networks, for the tiles of a frame size."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from upres.engine.models import manifest
from upres.engine.models.padding import cut
from upres.engine.models.tiling import TILE_LIMIT, Span
from upres.engine.runtime.engines.manifest import Builder, file_name
from upres.engine.runtime.half import in_precision

from . import engine


def build_engines(
    network: str, width: int, height: int, out: Path, *, precision: str, builder: Builder, command: str
) -> Iterator[engine.Engine]:
    """Build engines of an installed network for frames of a size: one for every shape of their tiles.

    precision: fp32 or fp16. command: the command that rebuilds the engines. Raises ModelError if the network is not installed or
    damaged, or with the builder's message if it rejects the graph.
    """
    path, facts = manifest.find(network)
    manifest.check(path, facts.variant("exact", ("fp32",)))
    tiles = cut(facts, width, height, TILE_LIMIT, on_device=True)
    shapes = {(_length(column), _length(row)) for column in tiles.columns for row in tiles.rows}
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / path.name
        graph.write_bytes(in_precision(path, precision))
        for wide, tall in sorted(shapes):
            sizes = {"width": wide, "height": tall}
            built = engine.build(graph, sizes, out / file_name(network, precision, wide, tall, builder), builder)
            engine.describe(built, graph, sizes, reference=path, precision=precision, builder=builder, command=command)
            yield built


def _length(span: Span) -> int:
    return span.stop - span.start
