"""Closed captions in the picture (ATSC A/53): kept by time while a model, which sees pixels only, upscales the frames."""

import numpy as np
from av import VideoFrame
from av.video.frame import PictureType
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from upres.engine.color.side_data import side_data

CARRIER_SIDE = 2  # pixels of the small frame that keeps what lies beside a large one


class Captions:
    """Filled by the thread that decodes, emptied by the one that encodes; holds no more than the frames between them.

    libavcodec takes captions from a frame's side data, which PyAV cannot write, but copies with a frame that it resizes.
    """

    def __init__(self) -> None:
        self._carriers: dict[int, VideoFrame] = {}

    def keep(self, frame: VideoFrame) -> None:
        """Keep what captions a decoded frame has."""
        if side_data(frame, "A53_CC"):
            self._carriers[frame.pts or 0] = frame.reformat(CARRIER_SIDE, CARRIER_SIDE, "yuv420p", threads=1)

    def take(self, pts: int) -> VideoFrame | None:
        """Return what carries the captions of a time, and forget all before it; None where there are none."""
        carrier = self._carriers.pop(pts, None)
        for passed in [time for time in tuple(self._carriers) if time < pts]:  # of frames that are not encoded again
            self._carriers.pop(passed, None)
        return carrier


def captioned(picture: VideoFrame, carrier: VideoFrame | None) -> VideoFrame:
    """Return a frame that is about to be encoded with the captions that were kept; itself where there are none."""
    if carrier is None:
        return picture
    restored = carrier.reformat(picture.width, picture.height, picture.format.name, threads=1)
    for plane, other in zip(restored.planes, picture.planes, strict=True):
        width = min(plane.line_size, other.line_size)
        _rows(plane)[:, :width] = _rows(other)[:, :width]
    restored.pict_type = PictureType.NONE  # the source's own would be obeyed
    return restored


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
