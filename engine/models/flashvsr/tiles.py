"""Positions of the transformer's tiles over a frame, and the weights by which their latents are blended."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from upres.engine.core.frame import Pixels
from upres.engine.runtime.base import Tensor

from .manifest import Profile

OVERLAP = 128  # minimum overlap of neighboring tiles in pixels, unless half a tile is less
GRID = 16  # pixels per token; tiles are aligned to it
REACH = 2 * GRID  # pixels around a token that it depends on: two 3x3 convolutions over tokens
LATENT_PIXELS = 8  # pixels per latent sample


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the padded frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, field: Tensor, pixels: int) -> Tensor:
        """Return this part of a field (..., rows, columns) with samples of this many pixels."""
        rows = slice(self.top // pixels, (self.top + self.height) // pixels)
        columns = slice(self.left // pixels, (self.left + self.width) // pixels)
        return field[..., rows, columns]

    def cut_frame(self, frames: Pixels) -> Pixels:
        """Return this part of frames (..., height, width, 3)."""
        return frames[..., self.top : self.top + self.height, self.left : self.left + self.width, :]

    def grown(self, halo: int, height: int, width: int) -> "Tile":
        """Return the tile extended by a halo, within the frame."""
        top, left = max(0, self.top - halo), max(0, self.left - halo)
        bottom, right = min(height, self.top + self.height + halo), min(width, self.left + self.width + halo)
        return Tile(top, left, bottom - top, right - left)

    def within(self, outer: "Tile") -> "Tile":
        """Return the tile relative to the top left corner of another one."""
        return Tile(self.top - outer.top, self.left - outer.left, self.height, self.width)


@dataclass(frozen=True, slots=True)
class Layout:
    """Tiles that cover a frame. height, width: of the padded frame in pixels. tiles: of the profile's size, row by row."""

    height: int
    width: int
    profile: Profile
    tiles: tuple[Tile, ...]

    def shares(self) -> list[Tensor]:
        """Return each tile's weights, (rows, columns) float32: ramps over the overlaps; all weights at a place sum to 1."""
        down = _ramps(self.height, sorted({tile.top for tile in self.tiles}), self.profile.height)
        across = _ramps(self.width, sorted({tile.left for tile in self.tiles}), self.profile.width)
        return [np.outer(down[tile.top], across[tile.left]).astype(np.float32) for tile in self.tiles]


def lay_out(profiles: Sequence[Profile], height: int, width: int) -> Layout:
    """Choose the profile that covers a frame of this output size with the fewest computed pixels, then the fewest tiles."""
    layouts = [_cover(profile, height, width) for profile in profiles]
    return min(layouts, key=lambda layout: (len(layout.tiles) * layout.profile.pixels, len(layout.tiles)))


def _cover(profile: Profile, height: int, width: int) -> Layout:
    rows, columns = _starts(height, profile.height), _starts(width, profile.width)
    tiles = tuple(Tile(top, left, profile.height, profile.width) for top in rows for left in columns)
    return Layout(rows[-1] + profile.height, columns[-1] + profile.width, profile, tiles)


def _starts(size: int, tile: int) -> list[int]:
    """Return the starts of tiles along an axis: evenly spaced on the token grid, with at least the minimum overlap."""
    last = max(0, -(-(size - tile) // GRID) * GRID)
    if last == 0:
        return [0]
    gaps = -(-last // (tile - min(OVERLAP, tile // 2)))
    return [last * gap // gaps // GRID * GRID for gap in range(gaps + 1)]


def _ramps(size: int, starts: list[int], tile: int) -> dict[int, Tensor]:
    """Return each tile's weights along an axis in latent samples, by its start."""
    samples = size // LATENT_PIXELS
    weights = np.zeros((len(starts), samples))
    for row, start in zip(weights, starts, strict=True):
        first, length = start // LATENT_PIXELS, tile // LATENT_PIXELS
        inside = np.arange(length) + 0.5
        rising = inside if first > 0 else np.full(length, np.inf)
        falling = length - inside if first + length < samples else np.full(length, np.inf)
        row[first : first + length] = np.minimum(np.minimum(rising, falling), OVERLAP / LATENT_PIXELS)
    weights /= weights.sum(0)
    return {
        start: row[start // LATENT_PIXELS : (start + tile) // LATENT_PIXELS]
        for start, row in zip(starts, weights, strict=True)
    }
