"""Tiles of FlashVSR's transformer over a frame: where they lie, and how their latents are blended. Knows sizes only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from upres.engine.core.frame import Pixels
from upres.engine.runtime.base import Tensor

from .manifest import Profile

OVERLAP = 128  # pixels that neighbouring tiles share at least, or half a tile where that is less
GRID = 16  # pixels of a token: tiles begin on it
REACH = 2 * GRID  # pixels a token depends on around it: two 3x3 convolutions over tokens
LATENT_PIXELS = 8  # pixels of a latent sample


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the padded frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, field: Tensor, pixels: int) -> Tensor:
        """Cut this part of a field (..., rows, columns) whose samples are this many pixels large."""
        rows = slice(self.top // pixels, (self.top + self.height) // pixels)
        columns = slice(self.left // pixels, (self.left + self.width) // pixels)
        return field[..., rows, columns]

    def cut_frame(self, frames: Pixels) -> Pixels:
        """Cut this part of frames (..., height, width, 3)."""
        return frames[..., self.top : self.top + self.height, self.left : self.left + self.width, :]

    def grown(self, halo: int, height: int, width: int) -> "Tile":
        """Grow by a halo, as far as the frame goes."""
        top, left = max(0, self.top - halo), max(0, self.left - halo)
        bottom, right = min(height, self.top + self.height + halo), min(width, self.left + self.width + halo)
        return Tile(top, left, bottom - top, right - left)

    def within(self, outer: "Tile") -> "Tile":
        """Move the origin to a corner of another rectangle."""
        return Tile(self.top - outer.top, self.left - outer.left, self.height, self.width)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a frame is covered. height, width: padded, pixels. tiles: of the profile's size, by rows."""

    height: int
    width: int
    profile: Profile
    tiles: tuple[Tile, ...]

    def shares(self) -> list[Tensor]:
        """Weigh each tile's latents, (rows, columns) float32: ramps over the overlaps, summing to 1 everywhere."""
        down = _ramps(self.height, sorted({tile.top for tile in self.tiles}), self.profile.height)
        across = _ramps(self.width, sorted({tile.left for tile in self.tiles}), self.profile.width)
        return [np.outer(down[tile.top], across[tile.left]).astype(np.float32) for tile in self.tiles]


def lay_out(profiles: Sequence[Profile], height: int, width: int) -> Layout:
    """Cover a frame of this size, in output pixels, with the profile that computes the fewest pixels, then has the fewest tiles."""
    layouts = [_cover(profile, height, width) for profile in profiles]
    return min(layouts, key=lambda layout: (len(layout.tiles) * layout.profile.pixels, len(layout.tiles)))


def _cover(profile: Profile, height: int, width: int) -> Layout:
    rows, columns = _starts(height, profile.height), _starts(width, profile.width)
    tiles = tuple(Tile(top, left, profile.height, profile.width) for top in rows for left in columns)
    return Layout(rows[-1] + profile.height, columns[-1] + profile.width, profile, tiles)


def _starts(size: int, tile: int) -> list[int]:
    """Place tiles along an axis: evenly, on the token grid, sharing at least the overlap; the last ends the padded axis."""
    last = max(0, -(-(size - tile) // GRID) * GRID)
    if last == 0:
        return [0]
    gaps = -(-last // (tile - min(OVERLAP, tile // 2)))
    return [last * gap // gaps // GRID * GRID for gap in range(gaps + 1)]


def _ramps(size: int, starts: list[int], tile: int) -> dict[int, Tensor]:
    """Weigh each tile along an axis, by where it starts, in latent samples."""
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
