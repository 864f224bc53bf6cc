"""Channel layouts: which one a track has."""

import ctypes
from dataclasses import dataclass

from av import AudioStream

# libavutil's channels in native order: the order of samples in a layout that is a mere set of channels.
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
    """The channels of a track in the order of its samples. names: libavutil's; empty where only their number is known."""

    count: int
    names: tuple[str, ...]

    @property
    def native(self) -> bool:
        """Return whether samples are in native order, or nothing says otherwise."""
        return self.names == self.ordered

    @property
    def ordered(self) -> tuple[str, ...]:
        """The names in native order."""
        return tuple(sorted(self.names, key=NATIVE.index))

    @property
    def layout(self) -> str:
        """The layout with these channels in native order, as libavutil reads it."""
        return "+".join(self.ordered) or f"{self.count} channels"


def channels_of(stream: AudioStream) -> Channels:
    """Return the channels of a track that was not decoded yet.

    PyAV 18.1 lends out the map of a layout that is not in native order as if it owned it, as the codec context does: it would
    be freed twice. So the object with such a map is never freed, and the context gets a layout in native order.
    """
    layout = stream.codec_context.layout
    names = tuple(channel.name for channel in layout.channels)
    known = {*names} <= {*NATIVE} and len({*names}) == len(names)
    channels = Channels(len(names), names if known else ())
    if not (known and channels.native):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
        stream.codec_context.layout = channels.layout
    return channels
