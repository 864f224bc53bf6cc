"""Viewers of a live run's own page, which receive what the page would."""

import io
import json
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import av
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

SECONDS = 120


@contextmanager
def visiting(url, key=None):
    """A socket as the page opens it."""
    place, link = urlsplit(url), parse_qs(urlsplit(url).fragment)
    with connect(f"ws://{place.netloc}/api/v2/live", max_size=None, open_timeout=SECONDS) as socket:
        socket.send(json.dumps({"key": key or link["key"][0], "attach": link["watch"][0]}))
        yield socket


def seen(socket):
    """Everything that a viewer receives: the video's bytes, and the last progress of the run."""
    data, last = bytearray(), {}
    try:
        while True:
            header = json.loads(socket.recv(timeout=SECONDS))
            last = header.get("progress", last)
            if about := header.get("track") or header.get("fragment"):
                piece = socket.recv(timeout=SECONDS)
                data += piece if "video" in (about.get("name"), about.get("track")) else b""
    except ConnectionClosed:
        return bytes(data), last


def watch(url):
    with visiting(url) as socket:
        return seen(socket)


def times(data):
    """The times of the frames in what a viewer received, in seconds. It starts with the keyframe that was the newest."""
    with av.open(io.BytesIO(data)) as file:
        return [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
