"""A clip for FlashVSR's tests."""

from fractions import Fraction

import av
import numpy as np


def film(path, count, width=64, height=48):
    """Return a clip of `count` frames at 25 frames per second: a pan over coarse noise with a cut in the middle."""
    texture = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(
            "libx264", rate=25, width=width, height=height, pix_fmt="yuv420p", options={"crf": "4"}
        )
        for t in range(count):
            view = texture[2 * t // count if count > 40 else 0, t : t + height, t : t + width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
