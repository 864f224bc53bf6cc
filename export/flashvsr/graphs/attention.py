"""The rule of FlashVSR's self-attention (arXiv 2510.12747): between near blocks of tokens, the most similar of those only."""

from dataclasses import dataclass

import numpy as np

WINDOWS = 3  # past temporal windows that are attended to (the release's kv_ratio)
BLOCK = 128  # tokens of an attention block: 2 latent frames x 8 rows x 8 columns


@dataclass(frozen=True, slots=True)
class Attention:
    """The rule for one size of tile.

    top_k: key blocks kept, summed over all query blocks of a head and temporal window.
    local_range: blocks a query sees along rows and columns. exact: the rule as published; else dense over all blocks.
    """

    top_k: int
    local_range: int = 11
    exact: bool = True


def outside_range(
    grid: tuple[int, int, int], keys: int, local_range: int
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Compute whether a key block lies outside the local range of a query block: (Nq, keys), the same in every temporal window."""
    rows, columns = grid[1] // 8, grid[2] // 8
    near = [
        (np.arange(size)[None] >= np.arange(size)[:, None] - local_range // 2)
        & (np.arange(size)[None] < np.arange(size)[:, None] - local_range // 2 + local_range)
        for size in (rows, columns)
    ]
    inside = (near[0][:, None, :, None] & near[1][None, :, None, :]).reshape(rows * columns, rows * columns)
    return ~np.tile(inside, (grid[0] // 2, keys // (rows * columns)))
