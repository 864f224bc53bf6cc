"""Settings of FlashVSR's export."""

from dataclasses import dataclass

from upres.engine.core.errors import SettingsError
from upres.engine.models.flashvsr.manifest import Precision

from .attention import Attention

PROFILES = ((256, 256), (512, 512), (640, 768), (768, 640))
DENSE_BLOCKS = 30  # maximum attention blocks of a tile with dense attention instead of the published rule


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of an export.

    profiles: tiles, height and width in output pixels, multiples of 128. precision: of the transformer.
    exact: the published attention rule, else dense attention. sparse_ratio, local_range: parameters of the published rule.
    topk_ratio: overrides the ratio computed from sparse_ratio. probe: let graphs also output masks and keys, for checks.
    """

    profiles: tuple[tuple[int, int], ...] = PROFILES
    precision: Precision = "fp32"
    exact: bool = True
    sparse_ratio: float = 2.0
    local_range: int = 11
    topk_ratio: float | None = None
    probe: bool = False

    def check(self) -> None:
        """Raise SettingsError listing every tile that the transformer, or dense attention, does not support."""
        problems = []
        for height, width in self.profiles:
            if height % 128 or width % 128 or min(height, width) < 128:
                problems.append(f"the sides of a {width}x{height} tile are not multiples of 128")
            elif not self.exact and height * width // 128**2 > DENSE_BLOCKS:
                problems.append(
                    f"dense attention on {width}x{height} differs from training: more than {DENSE_BLOCKS} blocks"
                )
        if problems or not self.profiles:
            raise SettingsError("; ".join(problems) or "an export needs at least one tile size")

    def attention(self, height: int, width: int) -> Attention:
        """Return the rule for a tile size: the top-k is about 120 key blocks per query block for every size."""
        ratio = self.sparse_ratio * 768 * 1280 / (height * width) if self.topk_ratio is None else self.topk_ratio
        blocks = height * width // 128**2
        return Attention(int(blocks**2 * ratio) - 1, self.local_range, self.exact)
