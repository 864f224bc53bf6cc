"""What sound is encoded as where the target cannot hold the source's own: AAC, and Opus in WebM."""

from collections.abc import Mapping
from dataclasses import dataclass

from upres.engine.core.channels import Channels

LARGEST = 8  # channels
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # samples a second
USUAL_RATE = 48000
SIDE_AS_BACK = {"SL": "BL", "SR": "BR"}


@dataclass(frozen=True, slots=True)
class SoundCodec:
    """One codec. library: its encoder. size: samples of a frame. sample_format: of what the encoder takes.

    rates: samples a second that it takes, ascending. layouts: those that every decoder knows, and the channels of each.
    """

    name: str
    library: str
    size: int
    sample_format: str
    rates: tuple[int, ...]
    layouts: Mapping[str, frozenset[str]]

    def rate_for(self, rate: int) -> int:
        """Return the sample rate for a source's; ValueError for one that no sound has."""
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"it has {rate} samples a second, where {LOWEST_RATE} to {HIGHEST_RATE} can be")
        if rate in self.rates:
            return rate
        return self.rates[0] if rate < self.rates[0] else USUAL_RATE

    def layout_for(self, channels: Channels) -> str:
        """Return the smallest layout that has all these channels, or the largest one."""
        if not channels.names:
            return next((layout for layout, known in self.layouts.items() if len(known) >= channels.count), "7.1")
        names = {*channels.names}
        if "BC" in names and not self._smallest(names):
            names = names - {"BC"} | {"BL", "BR"}
        if not names & {"BL", "BR"}:
            names = {SIDE_AS_BACK.get(name, name) for name in names}
        return self._smallest(names) or "7.1"

    def _smallest(self, names: set[str]) -> str | None:
        return next((layout for layout, known in self.layouts.items() if names <= known), None)


def _layouts(rows: dict[str, str]) -> dict[str, frozenset[str]]:
    return {name: frozenset(channels.split()) for name, channels in rows.items()}


SURROUND = {"5.1": "FL FR FC LFE BL BR", "7.1": "FL FR FC LFE BL BR SL SR"}
AAC = SoundCodec(
    *("AAC", "aac", 1024, "fltp"),
    (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
    # By channel configuration, from 1: ISO/IEC 14496-3, 1.6.3.5.
    _layouts(
        {"mono": "FC", "stereo": "FL FR", "3.0": "FL FR FC", "4.0": "FL FR FC BC", "5.0": "FL FR FC BL BR", **SURROUND}
    ),
)
OPUS = SoundCodec(
    *("Opus", "libopus", 960, "flt"),
    (USUAL_RATE,),  # in which all its times are
    # By count of channels: RFC 7845, 5.1.1.2; but for 5.0, whose last three channels libavcodec's libopus exchanges, and 6.1.
    _layouts({"mono": "FC", "stereo": "FL FR", "3.0": "FL FR FC", "quad": "FL FR BL BR", **SURROUND}),
)


def codec_in(container: str) -> SoundCodec:
    """Return what sound becomes that a container (libavformat's name) cannot hold."""
    return OPUS if container == "webm" else AAC
