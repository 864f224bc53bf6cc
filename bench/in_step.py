"""Synchronization of sound with a numbered picture: a sound track to send, and measurement of the offset in the result.

Sound packets are copied unchanged, so each packet of the result can be matched with one of the source by its bytes.
"""

import io
import re
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av import AudioFrame, AudioStream, Packet

RATE = 48_000
SAMPLES = 1024  # per AAC packet
RAW = {"ignore_editlist": "1"}  # timestamps as in a player with Media Source Extensions
LOUD = 0.1


class Noise:
    """A track of noise for an output file, in which no two packets are equal."""

    def __init__(self, target: av.container.OutputContainer) -> None:
        self._target = target
        self._stream: AudioStream = target.add_stream("aac", rate=RATE, layout="mono")
        self._random = np.random.default_rng(0)
        self._samples = 0

    def upto(self, seconds: Fraction) -> None:
        """Write the sound up to a time in seconds."""
        while self._samples < seconds * RATE:
            samples = self._random.standard_normal((1, SAMPLES), np.float32) * LOUD
            frame = AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, self._samples, Fraction(1, RATE)
            self._target.mux(self._stream.encode(frame))
            self._samples += SAMPLES

    def end(self) -> None:
        """Write the last packets."""
        self._target.mux(self._stream.encode(None))


def shows_picture(fragment: bytes) -> bool:
    """Report whether a moof contains frames of the first track, which is the picture."""
    return b"\0\0\0\1" in (fragment[match.end() + 4 : match.end() + 8] for match in re.finditer(b"tfhd", fragment))


def picture_times(data: bytes) -> list[float]:
    """List the timestamps of a file's frames, in seconds, in decoding order."""
    with av.open(io.BytesIO(data)) as file:
        return [float(packet.pts * packet.time_base) for packet in file.demux(video=0) if packet.pts is not None]


def milliseconds_apart(
    sent: bytes, sound: bytes, pictures: list[tuple[float, float]], *, start: float | None
) -> float | None:
    """Return the maximum offset between sound and picture, in milliseconds; None if there is no sound.

    sound: the file with the sound. pictures: timestamps of each frame in the source and in the result, in seconds.
    start: seconds to add to the timestamps of a file with sound only; None if it also has the picture.
    """
    if not sound or not pictures:
        return None
    at = {bytes(packet): seconds for packet, seconds in _packets(sent, {})}
    offsets = [
        seconds + (start or 0.0) - at[bytes(packet)]
        for packet, seconds in _packets(sound, {} if start is None else RAW)
        if bytes(packet) in at
    ]
    if not offsets:
        return None
    shown = [result - source for source, result in pictures]
    return round(1000 * max(max(offsets) - min(shown), max(shown) - min(offsets)), 1)


def _packets(data: bytes, options: dict[str, str]) -> "Iterator[tuple[Packet[AudioStream], float]]":
    with av.open(io.BytesIO(data), options=options) as file:
        for stream in file.streams.audio[:1]:
            for packet in file.demux(stream):
                if packet.size and packet.pts is not None:
                    yield packet, float(packet.pts * packet.time_base)
