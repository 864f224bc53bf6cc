"""The process of a pulled stream: reads it from the one address that it can reach, and remuxes it to NUT. `puller` starts it.

Its messages use `framing`: bytes of the stream as the payload of an empty header, `interruptions` whenever that count rises, and
finally `ended`, or `failed` with the reason if it cannot be opened.
"""

import os
import socket
from collections.abc import Iterator

import av
from av.container import InputContainer

from upres.engine.core.errors import UpresError
from upres.engine.core.timeline import Repairs
from upres.engine.decode.container import MediaPacket, Tracks, choose, open_container
from upres.engine.decode.demuxer import Demuxer
from upres.engine.decode.source import Opened, opener_for
from upres.service.execution.sandbox.confinement import confine_to_peer
from upres.service.execution.sandbox.limits import Bounds, name_process
from upres.service.live import framing

BOUNDS = Bounds(memory_bytes=2 << 30, cpu_seconds=None, file_bytes=0)
CONTAINER = "nut"  # supports every codec; a packet can be used as soon as it has arrived, without the next
OPTIONS = {"flush_packets": "1", "fflags": "+bitexact", "write_index": "0"}  # an index would grow without bound


def run(end: socket.socket, *, name: str, url: str, options: dict[str, str], allow_unconfined: bool) -> None:
    """Send a stream until it ends, fails permanently or the server is gone. name: shown to users, who must not see the URL.

    First send one byte, with the file descriptor on which connections are requested, or without one if the system cannot confine.
    options: of libavformat, in addition to those of the URL's scheme. allow_unconfined: send the stream in that case too.
    """
    name_process("upres-puller")
    listener = confine_to_peer(BOUNDS)
    if listener is None:
        end.sendall(b"\0")
        if not allow_unconfined:
            return
    else:
        socket.send_fds(end, [b"\0"], [listener])
        os.close(listener)  # otherwise this process could answer its own requests
    try:
        Stream(end, name, url, options).send()
    except UpresError as error:
        framing.send(end, {"failed": str(error)})
    else:
        framing.send(end, {"ended": True})


class Stream:
    """Conversion of the source's packets to a stream for the server."""

    def __init__(self, end: socket.socket, name: str, url: str, options: dict[str, str]) -> None:
        self._end = end
        self._name, self._url, self._options = name, url, options
        self._repairs = Repairs()
        self._last: dict[int, int] = {}
        self._reported = 0
        self._newest: InputContainer | None = None

    def send(self) -> None:
        """Send the stream to its end. Raises SourceError if it cannot be opened, OSError if the server is gone."""
        container, tracks = self._open()
        opener = opener_for(self._url)
        packets = Demuxer(container, tracks, self._repairs, live=True, reopen=self._reopen, reconnect=opener.reconnect)
        with container, av.open(self, "w", format=CONTAINER, options=OPTIONS) as output:
            streams = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in tracks.all}
            for packet in self._timed(packets):
                packet.stream = streams[packet.stream.index]
                output.mux(packet)

    def write(self, data: bytes) -> int:
        """Send muxed bytes; called by PyAV."""
        framing.send(self._end, {}, bytes(data))
        return len(data)

    def _open(self) -> tuple[InputContainer, Tracks]:
        opened: Opened = opener_for(self._url).open(self._url, spool=False)
        settings = {**opened.options, **self._options}
        container = open_container(
            self._name, opened.file, None, live=True, settings=settings, wait_seconds=opened.wait_seconds
        )
        return container, choose(self._name, container, live=True)

    def _reopen(self) -> tuple[InputContainer, Tracks]:
        """Close the broken connection and open another; the first container stays open because all packets use its tracks."""
        if self._newest is not None:
            self._newest.close()
        self._newest, tracks = self._open()
        return self._newest, tracks

    def _timed(self, packets: Demuxer) -> Iterator[MediaPacket]:
        """Yield packets with content, with increasing decoding timestamps in each track, and report interruptions."""
        for packet in packets:
            if self._repairs.interruptions > self._reported:
                self._reported = self._repairs.interruptions
                framing.send(self._end, {"interruptions": self._reported})
            if packet.size:
                index, known = packet.stream.index, packet.dts if packet.dts is not None else packet.pts
                last = self._last.get(index)
                least = 0 if last is None else last + 1
                packet.dts = self._last[index] = (
                    least if known is None else known if last is None else max(known, least)
                )
                packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
                yield packet
