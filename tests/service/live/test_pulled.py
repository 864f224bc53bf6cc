"""Live jobs whose source the server pulls: a client names a stream, sends nothing, and sees no URL."""

import io
import json
import urllib.request

import av
import grpc
import media
import processes
import pytest
import referee
import rtsp
from camera import Camera
from google.rpc import error_details_pb2
from rpc_calls import Parts, Sender, details
from serving import KEY, Rpc, ServerProcess
from websockets.sync.client import connect

from upres.service.client import Client
from upres.v2 import upscale_pb2 as pb

SECONDS = 200


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("pulled") / "in.ts"
    picture = "testsrc2=size=64x48:rate=10:duration=2"
    return media.clip(path, "-c:v", "libx264", "-g", 5, picture=picture).read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Camera() as camera:
        streams = {"entrance": f"tcp://someone:secret@localhost:{camera.port}", "off": "rtsp://localhost:1/x"}
        with ServerProcess(tmp_path_factory.mktemp("server") / "state", live_sources=streams, live_slots=4) as process:
            process.camera = camera
            yield process.ready()


@pytest.fixture
def camera(server, clip):
    """A camera whose connection breaks once, and which then sends nothing more."""
    server.camera.pieces[:] = [clip, clip]
    server.camera.requested.clear()
    return server.camera


@pytest.fixture
def rpc(server):
    with Rpc(server.target) as rpc:
        yield rpc


def config(name, **settings):
    options = {"model": "RealESRGAN_Vid_x2", "segment_seconds": 0.5, "preset": "ultrafast", "live": True, **settings}
    return pb.UpscaleConfig(live_source=name, **options)


def pullers(server):
    return processes.below("upres-puller", pid=server.process.pid)


def count_frames(data, header=b""):
    with av.open(io.BytesIO(header + data)) as file:
        return len(list(file.decode(video=0)))


def test_a_stream_is_upscaled_over_a_break_for_its_starter_and_a_viewer(server, rpc, camera):
    sender, parts, viewed = Sender(pb.UpscaleRequest(config=config("entrance"))), Parts(), Parts()
    call = rpc.call(rpc.upscale.Upscale, iter(sender))
    accepted = next(call).accepted
    assert accepted.config.live_source == "entrance"
    attach = pb.UpscaleRequest(attach=pb.UpscaleRequest.Attach(request_id=accepted.request_id))
    viewer = rpc.call(rpc.upscale.Upscale, iter([attach]))
    while "video" not in viewed.data:  # otherwise the job could end before the viewer connects
        viewed.take(next(viewer))
    for answer in call:
        parts.take(answer)
        if (
            camera.requested.is_set()
            and answer.WhichOneof("kind") == "progress"
            and answer.progress.totals.frames_out >= 36
        ):
            sender.end()  # everything that the camera sent has arrived
    for answer_ in viewer:
        viewed.take(answer_)
    assert answer.job.status == pb.Job.STATUS_DONE and answer.job.totals.frames_out >= 36
    assert any("interrupted and reopened 1 time" in text for text in answer.job.warnings)
    assert parts.file("video") == viewed.file("video")
    assert count_frames(parts.file("video")) == answer.job.totals.frames_out
    assert pullers(server) == []


def test_the_page_sees_names_and_starts_one_by_its_name(server, camera):
    request = urllib.request.Request(f"{server.base}/api/v2/live/sources", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        assert json.load(response) == {"data": [{"name": "entrance"}, {"name": "off"}]}
    start = {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast", "live_source": "entrance", "when_slow": "drop"}
    with connect(f"ws{server.base[4:]}/api/v2/live", max_size=None, open_timeout=SECONDS) as socket:
        socket.send(json.dumps({"key": KEY, "start": start}))
        tracks = []
        while len(tracks) < 5:
            message = socket.recv(timeout=SECONDS)
            tracks += [message] if isinstance(message, bytes) else []
        [process] = pullers(server)
        socket.send(b"bytes of a source")
        text = ""
        while '"error": {' not in text:
            text = socket.recv(timeout=SECONDS)
            text = text if isinstance(text, str) else ""
        assert "The server pulls this source" in text
    process.wait(SECONDS)  # it ends with the client that started it


@pytest.mark.referee
def test_a_camera_that_speaks_rtsp_is_pulled_with_its_sound_and_played_by_its_address(tmp_path):
    rtsp.needed()
    with (
        rtsp.rtsp_camera() as camera,
        ServerProcess(tmp_path / "state", live_sources={"camera": camera.address}) as server,
        connect(f"ws{server.ready().base[4:]}/api/v2/live", max_size=None, open_timeout=SECONDS) as socket,
    ):
        start = {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast", "live_source": "camera", "segment_seconds": 0.5}
        socket.send(json.dumps({"key": KEY, "start": start}))
        accepted, tracks = json.loads(socket.recv(timeout=SECONDS))["accepted"], []
        while tracks.count("video") < 20 or "audio0" not in tracks:
            message = socket.recv(timeout=SECONDS)
            tracks += [json.loads(message).get("fragment", {}).get("track")] if isinstance(message, str) else []
        media.ffmpeg("-i", server.base + accepted["hls"], "-t", 2, "-c", "copy", tmp_path / "played.mkv")
    assert referee.size(tmp_path / "played.mkv") == (128, 96) and referee.count(tmp_path / "played.mkv") >= 15


def test_a_stream_that_cannot_be_had_ends_its_job_with_the_reason(server):
    with Client(server.target, KEY) as client:
        *_, job = client.stream(None, config("off"))
    assert job.status == pb.Job.STATUS_ERROR and job.error.reason == "SOURCE_INCOMPLETE" and job.error.retryable
    assert job.error.message.startswith("off: ") and "Connection refused" in job.error.message
    assert "localhost" not in job.error.message


@pytest.mark.parametrize(
    ("settings", "description"),
    [
        (config("rtsp://localhost/x"), "There is no live_source rtsp://localhost/x; there are entrance, off."),
        (config("entrance", live=False), "A live_source requires a live source."),
    ],
)
def test_what_is_no_stream_of_the_operators_is_refused(rpc, settings, description):
    with pytest.raises(grpc.RpcError) as refused:
        list(rpc.call(rpc.upscale.Upscale, iter([pb.UpscaleRequest(config=settings)])))
    [violations] = details(refused.value, error_details_pb2.BadRequest)
    assert [(each.field, each.description) for each in violations.field_violations] == [("live_source", description)]


def test_who_names_a_stream_sends_none(rpc, camera):
    sender = Sender(pb.UpscaleRequest(config=config("entrance")))
    sender.send(b"bytes of a source")
    with pytest.raises(grpc.RpcError, match="from the stream that it names"):
        list(rpc.call(rpc.upscale.Upscale, iter(sender)))
