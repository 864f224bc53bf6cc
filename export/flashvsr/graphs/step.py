"""A step of the transformer: its number of latent frames and its tile."""

from dataclasses import dataclass

from .attention import BLOCK, WINDOWS


@dataclass(frozen=True, slots=True)
class Step:
    """The step that a graph computes.

    frames: 6 latent frames at the start of a shot, then 2. height, width: of the tile, in output pixels.
    probe: also output every layer's block mask, its probabilities and thresholds, and the last layer's keys, channels permuted.
    """

    frames: int
    height: int
    width: int
    probe: bool = False

    @property
    def grid(self) -> tuple[int, int, int]:
        """Frames, rows and columns of tokens."""
        return self.frames, self.height // 16, self.width // 16

    @property
    def blocks(self) -> int:
        """Attention blocks of one temporal window."""
        return self.height * self.width // BLOCK**2

    @property
    def windows(self) -> int:
        """Temporal windows of queries."""
        return self.frames // 2

    @property
    def past(self) -> int:
        """Temporal windows of keys in the state before this step."""
        return 0 if self.frames == 2 * WINDOWS else WINDOWS

    @property
    def keys(self) -> int:
        """Attention blocks of keys."""
        return (self.past + self.windows) * self.blocks
