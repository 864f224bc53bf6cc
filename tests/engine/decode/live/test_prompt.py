"""Containers that show the end of a frame: it is decoded before any byte of the next one has arrived."""

import io
from fractions import Fraction

import av
import numpy as np

from upres.engine.decode.reader import Reader

FRAMES = 12


def webm_pieces():
    """Return a clip in pieces that each end with a frame."""
    file, ends = io.BytesIO(), []
    options = {"flush_packets": "1", "live": "1", "cluster_time_limit": "0"}
    with av.open(file, "w", format="webm", options=options) as target:
        stream = target.add_stream("libvpx", rate=10, options={"deadline": "realtime", "lag-in-frames": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
            picture = av.VideoFrame.from_ndarray(noise, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            target.mux(stream.encode(picture))
            ends.append(file.tell())
        target.mux(stream.encode(None))
    data = file.getvalue()
    ends = [*ends[1:], len(data)]  # this muxer writes a frame when the next one arrives
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


class Stream:
    """A stream of pieces. count: number of pieces of which something was read."""

    def __init__(self, parts):
        self._parts, self._rest, self.count = parts, b"", 0

    def read(self, size=-1, /):
        if not self._rest and self.count < len(self._parts):
            self._rest, self.count = self._parts[self.count], self.count + 1
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def test_a_frame_of_webm_does_not_wait_for_the_next():
    """Browsers record WebM."""
    stream = Stream(webm_pieces())
    with Reader(stream, live=True) as reader:
        waits = [stream.count - number for number, _ in enumerate(reader.frames(), 1)]
    assert waits == [0] * FRAMES
