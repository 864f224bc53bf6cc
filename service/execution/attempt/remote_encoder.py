"""GPU encoders held by the worker, as seen by an attempt: segment encoders over a channel each."""

import io
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import av
from av import Packet, VideoFrame, VideoStream

from upres.engine.color.planes import to_planes
from upres.engine.color.side_data import side_data
from upres.engine.core.frame import Frame, Shape
from upres.engine.decode.reader import Reader
from upres.engine.encode.captions import with_captions
from upres.engine.encode.codecs import NVENC
from upres.engine.encode.encoder import Piece, SegmentEncoder, SegmentEncoding
from upres.engine.encode.fragment import add_copy
from upres.engine.encode.options import Encoding
from upres.engine.machine.freed_memory import keep_freed_memory
from upres.engine.pipeline.encoders import another_encoder
from upres.engine.pipeline.estimate import media_memory
from upres.engine.pipeline.options import Job, resolved
from upres.service.execution.channel import Channel
from upres.service.execution.encoding.encoder_host import SETTINGS
from upres.service.execution.encoding.log_encoder import started_by_nvenc

from .remote_model import RemoteModel, value_of


def with_memory(
    model: RemoteModel, job: Job, reader: Reader, frames: int | None = None, *, log: Path | None = None
) -> Job:
    """Wait for the memory that the run is predicted to need, and return the job with the encoders that it may use.

    frames: number of frames of the result; None if unknown. log: the log's folder if the run may resume one; if NVENC started that
    log, wait for a GPU encoder too. Otherwise the CPU encodes if no GPU encoder is free. Raises SettingsError for a size that no
    encoder supports.
    """
    shape = reader.info.shape
    _, encoding = resolved(job, shape)
    media = media_memory(shape, encoding, job.scale, frames, keep_up=job.keep_up) + reader.ahead
    encoder = another_encoder(shape, encoding, job.scale, frames)
    nvenc = encoding.library in NVENC.values()
    waits = log is not None and bool(started_by_nvenc(log))
    count = model.reserve(shape.width, shape.height, media, encoder, nvenc=nvenc, waits=waits)
    if not nvenc:
        if count > 1:
            keep_freed_memory()
        return replace(job, encoders=count)
    if not count:
        return with_memory(model, replace(job, encoder=replace(job.encoder, nvenc=False)), reader, frames)
    channels = [model.open_encoder() for _ in range(count)]
    return replace(job, encoders=count, open_encoder=RemoteEncoders(channels))


class RemoteEncoders:
    """Factory of encoders: the worker's for NVENC, one per channel at a time; otherwise an encoder in this process."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._free: SimpleQueue[Channel] = SimpleQueue()
        for channel in channels:
            self._free.put(channel)

    def __call__(self, encoding: Encoding, shape: Shape) -> SegmentEncoding:
        """Open an encoder. Errors of a remote encoder are raised when its result is read."""
        if encoding.library not in NVENC.values():
            return SegmentEncoder(encoding, shape)
        return RemoteEncoder(self._free, encoding, shape)


class RemoteEncoder:
    """One remote encoder with the interface of SegmentEncoder. free: queue of idle channels; it uses one and puts it back."""

    def __init__(self, free: SimpleQueue[Channel], encoding: Encoding, shape: Shape) -> None:
        self.start = 0
        self.pending = False
        self._first = True
        self._codec = next(codec for codec, library in NVENC.items() if library == encoding.library)
        self._time_base = shape.time_base
        self._captions: dict[int, bytes] = {}
        self._kept = ExitStack()  # keeps open the container of the last returned piece
        self._free = free
        self._channel: Channel | None = free.get_nowait()
        self._channel.send({"do": "begin", "encoder": _settings(self._codec, encoding), "shape": _facts(shape)})

    def encode(self, picture: VideoFrame, frame: Frame, *, key: bool = False) -> None:
        """Send a picture as planes; its captions are kept here, so that the worker need not parse them."""
        assert self._channel is not None
        if self._first:
            self.start = frame.pts
        self.pending, self._first = True, False
        if captions := side_data(picture, "A53_CC"):
            self._captions[frame.pts] = bytes(captions)
        self._channel.send({"do": "encode", "key": key}, replace(frame, pixels=to_planes(picture)))

    def take(self, *, last: bool) -> Piece:
        """Return what was encoded since the previous call."""
        return self._request_piece({"do": "take", "last": last}, last=last)

    def finish(self) -> Piece:
        """Return the remaining packets, which end a segment."""
        return self._request_piece({"do": "finish"}, last=True)

    def close(self) -> None:
        """Release the encoder. Safe to call twice."""
        self._kept.close()
        if self._channel is not None:
            channel, self._channel = self._channel, None
            with suppress(OSError):  # the worker is gone, and this process will end with it
                channel.send({"do": "end"})
            self._free.put(channel)

    def _request_piece(self, question: dict[str, Any], *, last: bool) -> Piece:
        assert self._channel is not None
        self._channel.send(question)
        message, data = self._channel.receive_data()
        facts = value_of(message)
        self.pending, self._first = False, last
        self._kept.close()
        file = self._kept.enter_context(av.open(io.BytesIO(data), "r", format="mp4"))
        stream = file.streams.video[0]
        packets = [self._placed(packet, facts) for packet in file.demux(stream) if packet.size]
        self._captions.clear()
        return Piece(packets, self._template(stream), **facts)

    def _template(self, stream: VideoStream) -> VideoStream:
        """Return a stream like this one but without its bit rate, which would otherwise appear in every segment's header."""
        container = self._kept.enter_context(av.open(io.BytesIO(), "w", format="mp4"))
        template = add_copy(container, stream)
        assert isinstance(template, VideoStream)
        template.codec_context.bit_rate = 0
        container.start_encoding()
        return template

    def _placed(self, packet: "Packet[VideoStream]", facts: dict[str, Any]) -> "Packet[VideoStream]":
        """Convert a packet of the worker's MP4 to the result's timestamps, and attach its picture's captions."""
        ticks = packet.time_base / self._time_base
        pts, dts = (round((time or 0) * ticks) + facts["pts"] for time in (packet.pts, packet.dts))
        if captions := self._captions.get(pts):
            packet = with_captions(packet, captions, self._codec)
        packet.pts, packet.dts, packet.duration = pts, dts, round((packet.duration or 0) * ticks)
        packet.time_base = self._time_base
        return packet


def _settings(codec: str, encoding: Encoding) -> dict[str, Any]:
    return {**{name: getattr(encoding.encoder, name) for name in SETTINGS}, "codec": codec}


def _facts(shape: Shape) -> dict[str, Any]:
    color = {name: getattr(shape.color, name) for name in ("matrix", "range", "primaries", "transfer")}
    times = {name: getattr(shape, name).as_integer_ratio() for name in ("time_base", "rate", "sample_aspect")}
    return {"color": color, **times}
