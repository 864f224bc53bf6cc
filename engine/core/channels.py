"""Channel layouts of audio tracks."""

import ctypes
from dataclasses import dataclass

from av import AudioStream

# libavutil's channels in native order, which is the sample order of any layout that is specified only as a set of channels.
NATIVE = (
    *(
        "FL",
        "FR",
        "FC",
        "LFE",
        "BL",
        "BR",
        "FLC",
        "FRC",
        "BC",
        "SL",
        "SR",
        "TC",
        "TFL",
        "TFC",
        "TFR",
        "TBL",
        "TBC",
        "TBR",
    ),
    *("DL", "DR", "WL", "WR", "SDL", "SDR", "LFE2", "TSL", "TSR", "BFC", "BFL", "BFR"),
)


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of a track in sample order. names: as libavutil names them; empty if only their number is known."""

    count: int
    names: tuple[str, ...]

    @property
    def native(self) -> bool:
        """Report whether samples are in native order; true if the channels have no names."""
        return self.names == self.ordered

    @property
    def ordered(self) -> tuple[str, ...]:
        """The names in native order."""
        return tuple(sorted(self.names, key=NATIVE.index))

    @property
    def layout(self) -> str:
        """The layout with these channels in native order, in the notation that libavutil parses."""
        return "+".join(self.ordered) or f"{self.count} channels"


def channels_of(stream: AudioStream) -> Channels:
    """Return the channels of a track that has not been decoded yet.

    In PyAV 18.1 a layout object that is not in native order shares its channel map with the codec context, and both free it.
    To avoid the double free, such an object is never freed, and the context's layout is replaced by one in native order.
    """
    layout = stream.codec_context.layout
    names = tuple(channel.name for channel in layout.channels)
    known = {*names} <= {*NATIVE} and len({*names}) == len(names)
    channels = Channels(len(names), names if known else ())
    if not (known and channels.native):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
        stream.codec_context.layout = channels.layout
    return channels
