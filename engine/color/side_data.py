"""What lies beside a frame's pixels, as far as PyAV knows its kinds."""

from av import VideoFrame
from av.sidedata.sidedata import SideData


def side_data(frame: VideoFrame, kind: str) -> SideData | None:
    """Return what lies beside a frame under FFmpeg's name of a kind.

    None where a frame holds a kind that PyAV does not know, as EXIF: it then shows none of them.
    """
    try:
        data = frame.side_data.get(kind)
    except ValueError:
        return None
    return data if isinstance(data, SideData) else None
