"""Channel layouts: which one a track has, and which one AAC keeps it in."""

import ctypes
from collections.abc import Sequence
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
AAC = {
    "mono": {"FC"},
    "stereo": {"FL", "FR"},
    "3.0": {"FL", "FR", "FC"},
    "4.0": {"FL", "FR", "FC", "BC"},
    "5.0": {"FL", "FR", "FC", "BL", "BR"},
    "5.1": {"FL", "FR", "FC", "LFE", "BL", "BR"},
    "7.1": {"FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"},
}
SIDE_AS_BACK = {"SL": "BL", "SR": "BR"}
LARGEST = 8
UNNAMED = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}


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

    def pan(self, count: int) -> str | None:
        """Return how libavfilter's pan makes a native layout of so many channels of this track; None where it has one."""
        if self.native and (self.names or count <= LARGEST):
            return None
        order = [self.names.index(name) for name in self.ordered] or range(LARGEST)
        return pan(self.layout if self.names else "7.1", order) if count == self.count else None

    @property
    def aac(self) -> str:
        """The smallest layout known to every AAC decoder that has all these channels, or the largest one."""
        if not self.names:
            return UNNAMED.get(self.count, "stereo" if self.count < LARGEST else "7.1")
        wanted = {*self.names}
        if not wanted & {"BL", "BR"}:
            wanted = {SIDE_AS_BACK.get(name, name) for name in wanted}
        return next((layout for layout, names in AAC.items() if wanted <= names), "7.1")


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


def pan(layout: str, order: Sequence[int]) -> str:
    """Return arguments of libavfilter's pan: which channel of its input becomes each one of a layout."""
    return "|".join([layout, *(f"c{to}=c{channel}" for to, channel in enumerate(order))])
