"""Viewers of a live job through every protocol: each yields the kind of every message until the job ends."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager

from serving import KEY, Rpc
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from upres.v2 import upscale_pb2 as pb

SECONDS = 200


@contextmanager
def grpc_call(server, request_id):
    with Rpc(server.target) as rpc:
        attach = pb.UpscaleRequest(attach=pb.UpscaleRequest.Attach(request_id=request_id))
        call = rpc.call(rpc.upscale.Upscale, iter([attach]))
        assert next(call).accepted.request_id == request_id
        yield call
        call.cancel()


@contextmanager
def web_socket(server, request_id):
    address = f"ws{server.base[4:]}/api/v2/live"
    with connect(address, max_size=None, open_timeout=SECONDS, ping_interval=None, close_timeout=1) as socket:
        socket.send(json.dumps({"key": KEY, "attach": request_id}))
        assert "accepted" in json.loads(socket.recv(timeout=SECONDS))
        yield socket


def by_grpc(server, request_id):
    """Yield the kind of each message."""
    with grpc_call(server, request_id) as call:
        for answer in call:
            yield answer.WhichOneof("kind")


def headers(socket):
    """Yield the name of each message of a socket, which closes when the job ends."""
    try:
        while True:
            message = socket.recv(timeout=SECONDS)
            if isinstance(message, str):
                yield next(iter(json.loads(message)))
    except ConnectionClosed:
        return


def by_socket(server, request_id):
    with web_socket(server, request_id) as socket:
        yield from headers(socket)


def by_hls(server, request_id):
    request = urllib.request.Request(f"{server.base}/api/v2/jobs", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        jobs = {job["request_id"]: job["hls_url"] for job in json.load(answer)["data"]}

    def get(name):
        with urllib.request.urlopen(urllib.parse.urljoin(jobs[request_id], name), timeout=SECONDS) as answer:
            return answer.read()

    playlist, ended = get("video.m3u8").decode(), False
    while not ended:
        ended, newest = "#EXT-X-ENDLIST" in playlist, re.findall(r"^video-(\d+)\.mp4$", playlist, re.MULTILINE)[-1]
        try:
            yield "fragment" if get(f"video-{newest}.mp4") else "empty"
        except urllib.error.HTTPError as error:  # it disappeared while it was requested
            assert error.code == 404
        playlist = get(f"video.m3u8?_HLS_msn={int(newest) + 1}").decode()
