"""Decoded sound encoded: resampled to one rate and layout, without gaps or overlaps, in frames of the encoder's size."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
from av import AudioFifo, AudioFrame, AudioStream, Packet
from av.filter import Graph

from upres.engine.core.channels import Channels

from .codecs import LARGEST, SoundCodec

BITS_A_CHANNEL = 96_000
LONGEST_SILENCE = 60  # seconds that are written out; of a longer hole only the first one is, the rest is a jump in time


class SoundEncoder:
    """One encoder. layout: of the codec's. channels: of the frames that it gets. start: the sample at which the first has to start.

    A gap in the frames becomes silence and an overlap is cut off, so that sound stays where its stamps say.
    stream: what the packets play with. rate: samples a second, of their times. size: samples of a packet.
    """

    def __init__(self, codec: SoundCodec, rate: int, layout: str, channels: Channels, start: int = 0) -> None:
        self._container = av.open(io.BytesIO(), "w", format="mp4")
        stream = self._container.add_stream(codec.library, rate=rate, layout=layout)
        assert isinstance(stream, AudioStream)
        stream.bit_rate = BITS_A_CHANNEL * av.AudioLayout(layout).nb_channels
        stream.codec_context.time_base = Fraction(1, rate)
        self._container.start_encoding()
        self.stream = stream
        self.rate, self.size, self._codec, self._layout, self._channels = rate, codec.size, codec, layout, channels
        self._graph: Graph | None = None
        self._shape: tuple[str, str, int] | None = None
        self._fifo = AudioFifo()
        self._written = start
        self._expected = Fraction(start)

    def encode(self, frame: AudioFrame) -> Iterator["Packet[Any]"]:
        """Yield the packets that a frame completes. Its pts is in samples of its own rate."""
        scale = Fraction(self.rate, frame.sample_rate)
        at = (frame.pts or 0) * scale
        frame.time_base = Fraction(1, frame.sample_rate)
        shape = frame.format.name, frame.layout.name, frame.sample_rate
        if shape != self._shape or at - self._expected > self.rate:
            self._drain(None)
            yield from self._fill(round(at))
            self._graph, self._shape = self._converter(frame), shape
        self._expected = at + frame.samples * scale
        self._drain(frame)
        yield from self._packets()

    def finish(self) -> Iterator["Packet[Any]"]:
        """Yield the last packets, and release the encoder."""
        self._drain(None)
        yield from self._packets()
        if rest := self._fifo.read():
            yield from self._encoded(rest)
        yield from self.stream.encode(None)
        self._container.close()

    def _drain(self, frame: AudioFrame | None) -> None:
        """Push a frame, or the end, into the graph, and keep what comes out."""
        if self._graph is not None:
            self._graph.push(frame)
            for resampled in _pulled(self._graph):
                self._keep(resampled)

    def _keep(self, frame: AudioFrame) -> None:
        frame.pts = None  # counted by the encoder's frames: those of the graph have no gaps
        self._fifo.write(frame)

    def _fill(self, sample: int) -> Iterator["Packet[Any]"]:
        """Yield packets of the silence before a sample, except for about a second, which is up to the graph."""
        gap = sample - self._written - self._fifo.samples
        hole = gap > LONGEST_SILENCE * self.rate
        size = self._codec.size
        for _ in range((self.rate if hole else gap - self.rate) // size):
            self._keep(self._silence(size))
            yield from self._packets()
        if hole:
            self._keep(self._silence(size - self._fifo.samples))
            yield from self._packets()
            self._written = sample

    def _packets(self) -> Iterator["Packet[Any]"]:
        while self._fifo.samples >= self._codec.size and (frame := self._fifo.read(self._codec.size)):
            yield from self._encoded(frame)

    def _encoded(self, frame: AudioFrame) -> Iterator["Packet[Any]"]:
        frame.pts, frame.time_base = self._written, Fraction(1, self.rate)
        self._written += frame.samples
        yield from self.stream.encode(frame)

    def _converter(self, frame: AudioFrame) -> Graph:
        """Return a graph from frames like this one to the encoder's, which starts where the sound so far ends."""
        start = round(Fraction(self._written + self._fifo.samples, self.rate) * frame.sample_rate)
        resample = ("aresample", {"async": "1", "first_pts": str(start)})
        formats = {"sample_fmts": self._codec.sample_format, "channel_layouts": self._layout}
        layout = ("aformat", {"sample_rates": str(self.rate), **formats})
        source = {"sample_rate": str(frame.sample_rate), "sample_fmt": frame.format.name}
        buffer = ("abuffer", {**source, "channel_layout": frame.layout.name, "time_base": f"1/{frame.sample_rate}"})
        chosen = _pan(self._channels, frame.layout.nb_channels)
        with suppress(av.FFmpegError):
            return _graph([buffer, *([("pan", {"args": chosen})] if chosen else []), resample, layout])
        count = min(frame.layout.nb_channels, av.AudioLayout(self._layout).nb_channels)
        return _graph([buffer, ("pan", {"args": _mapped(self._layout, range(count))}), resample, layout])

    def _silence(self, samples: int) -> AudioFrame:
        source = {"sample_rate": str(self.rate), "channel_layout": self._layout, "nb_samples": str(samples)}
        return next(_pulled(_graph([("anullsrc", source), ("aformat", {"sample_fmts": self._codec.sample_format})])))


def _pan(channels: Channels, count: int) -> str | None:
    """Return how libavfilter's pan makes a layout of `count` channels that are not in native order; None where they are."""
    if count != channels.count or (channels.native and (channels.names or count <= LARGEST)):
        return None
    if not channels.names:
        return _mapped("7.1", range(LARGEST))
    return _mapped(channels.layout, [channels.names.index(name) for name in channels.ordered])


def _mapped(layout: str, order: Sequence[int]) -> str:
    return "|".join([layout, *(f"c{to}=c{channel}" for to, channel in enumerate(order))])


def _graph(steps: Iterable[tuple[str, dict[str, str]]]) -> Graph:
    graph = Graph()
    nodes = [graph.add(name, **options) for name, options in [*steps, ("abuffersink", {})]]
    for node, following in pairwise(nodes):
        node.link_to(following)
    graph.configure()
    return graph


def _pulled(graph: Graph) -> Iterator[AudioFrame]:
    with suppress(av.BlockingIOError, av.EOFError):
        while isinstance(frame := graph.pull(), AudioFrame):
            yield frame
