"""The rule of FlashVSR's self-attention (arXiv 2510.12747): blocks of tokens attend only to the most similar nearby blocks."""

from dataclasses import dataclass

import numpy as np

WINDOWS = 3  # past temporal windows that are attended to (the release's kv_ratio)
BLOCK = 128  # tokens of an attention block: 2 latent frames x 8 rows x 8 columns


@dataclass(frozen=True, slots=True)
class Attention:
    """The attention rule for a tile size.

    top_k: key blocks kept, summed over all query blocks of a head and temporal window.
    local_range: blocks that a query can attend to along rows and columns. exact: the published rule; else dense attention.
    """

    top_k: int
    local_range: int = 11
    exact: bool = True


def outside_range(
    grid: tuple[int, int, int], keys: int, local_range: int
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Compute whether key blocks lie outside the local range of query blocks: (Nq, keys), equal in every temporal window."""
    rows, columns = grid[1] // 8, grid[2] // 8
    near = [
        (np.arange(size)[None] >= np.arange(size)[:, None] - local_range // 2)
        & (np.arange(size)[None] < np.arange(size)[:, None] - local_range // 2 + local_range)
        for size in (rows, columns)
    ]
    inside = (near[0][:, None, :, None] & near[1][None, :, None, :]).reshape(rows * columns, rows * columns)
    return ~np.tile(inside, (grid[0] // 2, keys // (rows * columns)))
