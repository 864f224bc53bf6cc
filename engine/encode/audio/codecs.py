"""Codecs for audio that cannot be copied to the target: AAC, and Opus for WebM."""

from collections.abc import Mapping
from dataclasses import dataclass

from upres.engine.core.channels import Channels

LARGEST = 8  # channels
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # samples per second
DEFAULT_RATE = 48000
SIDE_AS_BACK = {"SL": "BL", "SR": "BR"}


@dataclass(frozen=True, slots=True)
class SoundCodec:
    """An audio codec. library: FFmpeg's name of its encoder. size: samples per frame. sample_format: the encoder's input format.

    rates: supported sample rates, ascending. layouts: channel layouts that every decoder supports, with their channels.
    """

    name: str
    library: str
    size: int
    sample_format: str
    rates: tuple[int, ...]
    layouts: Mapping[str, frozenset[str]]

    def rate_for(self, rate: int) -> int:
        """Return the sample rate in which to encode a source of this rate. Raises ValueError if the rate is not plausible."""
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"its sample rate must be {LOWEST_RATE} to {HIGHEST_RATE}, got {rate}")
        if rate in self.rates:
            return rate
        return self.rates[0] if rate < self.rates[0] else DEFAULT_RATE

    def layout_for(self, channels: Channels) -> str:
        """Return the smallest layout that has all these channels, or the largest one if none has."""
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
    (DEFAULT_RATE,),  # the rate in which Opus counts all times
    # By channel count: RFC 7845, 5.1.1.2. Not listed: 5.0, whose last three channels libavcodec swaps for libopus,
    # and 6.1.
    _layouts({"mono": "FC", "stereo": "FL FR", "3.0": "FL FR FC", "quad": "FL FR BL BR", **SURROUND}),
)


def codec_in(container: str) -> SoundCodec:
    """Return the codec in which to encode audio that cannot be copied to a container (libavformat's name)."""
    return OPUS if container == "webm" else AAC
