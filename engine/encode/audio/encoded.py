"""Audio that is decoded and encoded again, because it cannot be copied to the target."""

from typing import Any

import av
from av import AudioFrame, Packet

from upres.engine.core.channels import Channels
from upres.engine.encode.codec_delay import hidden

from .codecs import SoundCodec
from .encoder import SoundEncoder
from .track import AudioTrack, Route


class EncodedAudio(AudioTrack):
    """Converts packets of any codec to one codec.

    If the source starts after 0, silence is inserted, so that the encoder's delay is always before 0, where it can be hidden.
    """

    def __init__(self, route: Route, channels: Channels, codec: SoundCodec) -> None:
        super().__init__(route)
        rate = self._stream.codec_context.sample_rate
        self._encoder = SoundEncoder(codec, codec.rate_for(rate), codec.layout_for(channels), channels)
        self._template = self._encoder.stream
        self._ticks = self._encoder.stream.codec_context.time_base

    def push(self, packet: "Packet[Any]") -> None:
        """Decode one packet, and encode its frames."""
        if packet.size:
            self._decode(packet)

    def finish(self) -> None:
        """Flush decoder and encoder, publish the remaining packets, and close the encoder."""
        self._decode(None)
        trim = 0
        for packet in self._encoder.finish():
            _, trim = hidden(packet)
            self._add(packet)
        self._note_trim(trim or self._shortened(self._encoder.size))
        super().finish()

    def _decode(self, packet: "Packet[Any] | None") -> None:
        try:
            frames = self._stream.decode(packet)
        except av.FFmpegError:
            self._damage()
            return
        for frame in frames:
            self._encode(frame)

    def _encode(self, frame: AudioFrame) -> None:
        if frame.pts is None and self._next is not None:  # a frame that the decoder had delayed
            frame.pts = self._next
        elif (at := self._place(frame.pts, frame.dts, 0)) is not None:
            frame.pts = self._aligned(round(at * frame.sample_rate))
        else:
            return
        self._next = self._end_of_last = frame.pts + frame.samples
        try:
            for packet in self._encoder.encode(frame):
                self._add(packet)
        except av.FFmpegError:  # raised for samples that are NaN
            self._damage()
