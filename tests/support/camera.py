"""A network camera on a local port that serves one part of its stream per connection, and the recordings it makes."""

import io
import itertools
import socket
import threading
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np


class Camera:
    """Serves one of `pieces` per connection. The connection after the last piece sets `requested` and is held open without data."""

    def __init__(self, *pieces):
        self.requested, self.pieces = threading.Event(), [*pieces]
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open = []

    def _serve(self):
        with suppress(OSError):  # it is switched off
            while True:
                connection, _ = self._server.accept()
                self._open.append(connection)
                if not self.pieces:
                    self.requested.set()
                    continue
                connection.sendall(self.pieces.pop(0))
                connection.shutdown(socket.SHUT_WR)

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        for each in (self._server, *self._open):
            each.close()


def recorded(times, rate=10, container="mpegts"):
    """Return frames with these numbers as a camera records them, ten per second: a list of each frame's bytes."""
    file, ends = io.BytesIO(), [0]
    options = {"flush_packets": "1"} | ({"cluster_time_limit": "0"} if container == "matroska" else {})
    with av.open(file, "w", format=container, options=options) as target:
        stream = target.add_stream("libx264", rate=rate, options={"tune": "zerolatency", "g": "300"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((72, 64), time % 256, np.uint8), format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            target.mux(stream.encode(frame))
            ends.append(file.tell())
    return [file.getvalue()[start:end] for start, end in itertools.pairwise(ends)]
