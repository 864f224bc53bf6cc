"""Live sources at network addresses that libavformat opens directly."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from upres.engine.decode.source import Opened, Source

PLAYLIST = re.compile(r"hls\+(?=https?://)", re.IGNORECASE)
WAIT_SECONDS = 10.0  # timeout for a connection and for its next data
SEGMENT_SECONDS = 30.0  # same for HLS, whose segments last several seconds and arrive as a whole
RECONNECT = 5  # consecutive attempts; the pause before each is one second longer than the previous one
# Maximum time until reconnecting to a source is abandoned, if all attempts time out.
GONE_SECONDS = (2 * RECONNECT + 1) * WAIT_SECONDS + sum(range(RECONNECT))
OPTIONS: Mapping[str, Mapping[str, str]] = {
    # Interleaved in one connection: this works through routers and firewalls, and packets are neither lost nor reordered.
    "rtsp": {"rtsp_transport": "tcp"},
    "hls": {"protocol_whitelist": "http,https,tls,tcp,crypto,data"},  # a playlist must not name local files
    "udp": {"fifo_size": "65536", "overrun_nonfatal": "1"},
}


class NetworkOpener:
    """Opener of rtsp, rtmp, udp, rtp and tcp addresses. A source that breaks off is reopened."""

    live, reconnect = True, RECONNECT

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Return the address for libavformat to open, with a timeout."""
        address = str(source)
        return Opened(address, options=OPTIONS.get(urlsplit(address).scheme.lower(), {}), wait_seconds=WAIT_SECONDS)


class PlaylistOpener:
    """Opener of hls+http and hls+https addresses: streams published as HLS, whose frames arrive in segments of some seconds."""

    live, reconnect = True, RECONNECT

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Return the playlist's address for libavformat to open, with a timeout."""
        return Opened(PLAYLIST.sub("", str(source)), options=OPTIONS["hls"], wait_seconds=SEGMENT_SECONDS)
