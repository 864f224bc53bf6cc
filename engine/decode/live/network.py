"""Live sources at network addresses that libavformat opens by itself."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from upres.engine.decode.source import Opened, Source

PLAYLIST = re.compile(r"hls\+(?=https?://)", re.IGNORECASE)
WAIT_SECONDS = 10.0  # for a connection, and for the next bytes of one, before it counts as broken off
PIECE_SECONDS = 30.0  # the same for HLS, whose pieces last some seconds and come whole
RECONNECT = 5  # tries in a row, each a second later than the one before
# At most, until a source that broke off has ended: no try brought anything.
GONE_SECONDS = (2 * RECONNECT + 1) * WAIT_SECONDS + sum(range(RECONNECT))
OPTIONS: Mapping[str, Mapping[str, str]] = {
    # Interleaved in one connection: cameras behind routers and firewalls are reached, and no packet is lost or out of order.
    "rtsp": {"rtsp_transport": "tcp"},
    "hls": {"protocol_whitelist": "http,https,tls,tcp,crypto,data"},  # a playlist names no files of this machine
    "udp": {"fifo_size": "65536", "overrun_nonfatal": "1"},
}


class NetworkOpener:
    """Opens rtsp, rtmp, udp, rtp and tcp. A source that breaks off is opened again."""

    live, reconnect = True, RECONNECT

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Leave the connection to libavformat, with a limit on every wait."""
        address = str(source)
        return Opened(address, options=OPTIONS.get(urlsplit(address).scheme.lower(), {}), wait_seconds=WAIT_SECONDS)


class PlaylistOpener:
    """Opens hls+http and hls+https: a stream that is published as HLS, whose frames come a piece of some seconds at once."""

    live, reconnect = True, RECONNECT

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Leave playlists and pieces to libavformat, with a limit on every wait."""
        return Opened(PLAYLIST.sub("", str(source)), options=OPTIONS["hls"], wait_seconds=PIECE_SECONDS)
