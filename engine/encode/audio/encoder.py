"""Audio encoder that resamples its input to one rate and layout, and fills gaps and removes overlaps."""

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

BITS_A_CHANNEL = 96_000  # per second
LONGEST_SILENCE = 60  # seconds; only the first second of a longer gap is encoded as silence, the rest is a jump in time


class SoundEncoder:
    """An audio encoder. Gaps between frames become silence and overlaps are cut off, so that audio keeps its timestamps.

    layout: one of the codec's layouts. channels: those of the input frames. start: sample at which the first packet starts.
    stream: encoder stream that the packets belong to. rate: samples per second, also the unit of packet times.
    size: samples per packet.
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
        """Encode a frame; yield the packets that it completes. Its pts is in samples of its own rate."""
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
        """Flush the encoder, yield the last packets, and release it."""
        self._drain(None)
        yield from self._packets()
        if rest := self._fifo.read():
            yield from self._encoded(rest)
        yield from self.stream.encode(None)
        self._container.close()

    def _drain(self, frame: AudioFrame | None) -> None:
        """Push a frame into the filter graph, or None to flush it, and buffer its output."""
        if self._graph is not None:
            self._graph.push(frame)
            for resampled in _pulled(self._graph):
                self._keep(resampled)

    def _keep(self, frame: AudioFrame) -> None:
        frame.pts = None  # set again for the encoder's frames; the graph's output has no gaps
        self._fifo.write(frame)

    def _fill(self, sample: int) -> Iterator["Packet[Any]"]:
        """Yield packets of silence up to about one second before a sample; the filter graph fills that second."""
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
        """Return a graph that converts frames like this one to the encoder's format, starting where the audio so far ends."""
        start = round(Fraction(self._written + self._fifo.samples, self.rate) * frame.sample_rate)
        resample = ("aresample", {"async": "1", "first_pts": str(start)})
        formats = {"sample_fmts": self._codec.sample_format, "channel_layouts": self._layout}
        layout = ("aformat", {"sample_rates": str(self.rate), **formats})
        source = {"sample_rate": str(frame.sample_rate), "sample_fmt": frame.format.name}
        buffer = ("abuffer", {**source, "channel_layout": frame.layout.name, "time_base": f"1/{frame.sample_rate}"})
        pan = _pan(self._channels, frame.layout.nb_channels)
        with suppress(av.FFmpegError):
            return _graph([buffer, *([("pan", {"args": pan})] if pan else []), resample, layout])
        count = min(frame.layout.nb_channels, av.AudioLayout(self._layout).nb_channels)
        return _graph([buffer, ("pan", {"args": _mapped(self._layout, range(count))}), resample, layout])

    def _silence(self, samples: int) -> AudioFrame:
        source = {"sample_rate": str(self.rate), "channel_layout": self._layout, "nb_samples": str(samples)}
        return next(_pulled(_graph([("anullsrc", source), ("aformat", {"sample_fmts": self._codec.sample_format})])))


def _pan(channels: Channels, count: int) -> str | None:
    """Return arguments for libavfilter's pan that bring `count` channels into native order; None if they are already."""
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
