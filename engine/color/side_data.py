"""Access to the side data of a frame."""

from av import VideoFrame
from av.sidedata.sidedata import SideData


def side_data(frame: VideoFrame, kind: str) -> SideData | None:
    """Return the side data of a kind (FFmpeg's name); None if there is none.

    Also None if the frame has any kind that PyAV does not know, such as EXIF, because PyAV then exposes no side data at all.
    """
    try:
        data = frame.side_data.get(kind)
    except ValueError:
        return None
    return data if isinstance(data, SideData) else None
