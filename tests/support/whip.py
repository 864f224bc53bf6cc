"""An independent WHIP receiver: aiortc behind an HTTP server that answers one offer."""

import asyncio
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import aioice
import aiortc

SECONDS = 60


def silence(monkeypatch):
    """Keep a receiver from sending reports and connectivity checks once it is connected."""

    async def nothing(*_):
        pass

    monkeypatch.setattr(aiortc.RTCDtlsTransport, "_send_rtp", nothing)
    monkeypatch.setattr(aioice.Connection, "query_consent", nothing)


class Receiver:
    """address: URL to publish to. pictures, sounds: received media. tokens: the Authorization headers of offers."""

    def __init__(self):
        self.pictures, self.sounds, self.tokens, self.deleted = [], [], [], threading.Event()
        self._loop = asyncio.new_event_loop()
        self._peer = None
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                offer = self.rfile.read(int(self.headers["Content-Length"])).decode()
                receiver.tokens.append(self.headers.get("Authorization"))
                answer = receiver._run(receiver._answer(offer)).encode()
                self.send_response(201)
                for name, value in {"Content-Type": "application/sdp", "Location": "/whip/1"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_DELETE(self):
                receiver.deleted.set()
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/whip"

    def wait(self, enough):
        """Wait until the received media meets a condition."""
        with self._changed:
            assert self._changed.wait_for(enough, SECONDS)

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    async def _answer(self, offer):
        self._peer = peer = aiortc.RTCPeerConnection()
        peer.on("track", lambda track: asyncio.ensure_future(self._take(track)))
        await peer.setRemoteDescription(aiortc.RTCSessionDescription(offer, "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return peer.localDescription.sdp

    async def _take(self, track):
        kept = self.pictures if track.kind == "video" else self.sounds
        while True:
            try:
                frame = await track.recv()
            except aiortc.mediastreams.MediaStreamError:
                return
            with self._changed:
                kept.append(frame)
                self._changed.notify_all()

    @contextmanager
    def open(self):
        threads = [
            threading.Thread(target=run, daemon=True) for run in (self._loop.run_forever, self._server.serve_forever)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            if self._peer is not None:
                self._run(self._peer.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            for thread in threads:
                thread.join(SECONDS)
            self._loop.close()
