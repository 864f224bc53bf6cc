"""The service's commands through the command line."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import media
import prepared
import pytest
import referee
from camera import Camera
from serving import KEY, Rpc, ServerProcess, upres

from upres.v2 import upscale_pb2 as pb


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state") as process:
        yield process


def test_submit_get_and_stream(server, clip, tmp_path):
    env = {"UPRES_SERVER": server.target, "UPRES_KEY": KEY}
    assert "this key has no jobs; create one with `upres submit in.mp4`" in upres("jobs", **env).stderr
    submitted = upres("submit", clip(), "--model", "RealESRGAN_Vid_x2", **env)
    assert submitted.returncode == 0, submitted.stderr
    downloaded = upres("get", submitted.stdout.strip(), tmp_path / "got.mp4", **env)
    assert downloaded.returncode == 0 and downloaded.stderr.endswith("got.mp4: 30 frames in, 30 out\n"), (
        downloaded.stderr
    )
    streamed = upres(
        "stream", clip(), tmp_path / "streamed.mp4", "--model", "RealESRGAN_Vid_x2", "--delivery", "frames", **env
    )
    assert streamed.returncode == 0 and "streamed.mp4: 30 frames in, 30 out\n" in streamed.stderr, streamed.stderr
    assert referee.packets(tmp_path / "got.mp4") == referee.packets(tmp_path / "streamed.mp4")
    again = upres("cancel", submitted.stdout.strip(), **env)
    assert again.returncode == 7 and "done" in again.stderr
    both = upres("submit", clip(), "--model", "nothing", "--crf", "51", "--prefilter", "magic", **env)
    assert both.returncode == 4 and "model" in both.stderr and "magic" in both.stderr
    listed = upres("jobs", **env).stdout.splitlines()
    assert (
        len(listed) == 2
        and f"{submitted.stdout.strip()}  done        100 %  RealESRGAN_Vid_x2  {clip().name}" == listed[1]
    )
    assert listed[0].endswith(f"  {clip().name}")
    assert upres("watch", submitted.stdout.strip(), **env).returncode == 0
    chained = upres("stream", clip(), tmp_path / "chained.mp4", "--chain", "x2,x2", **env)
    assert chained.returncode == 0 and referee.size(tmp_path / "chained.mp4") == (256, 192), chained.stderr
    assert upres("submit", clip(), UPRES_SERVER=server.target).returncode == 2


def test_what_a_user_should_know_of_a_job_is_told_by_get_and_by_stream(server, tmp_path):
    env = {"UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}
    source = media.clip(tmp_path / "in.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv420p10le", picture=media.SMOOTH)
    submitted = upres("submit", source, "--model", "RealESRGAN_Vid_x2", **env)
    downloaded = upres("get", submitted.stdout.strip(), tmp_path / "got.mp4", **env)
    streamed = upres("stream", source, tmp_path / "streamed.mp4", "--model", "RealESRGAN_Vid_x2", **env)
    for done in (downloaded, streamed):
        assert done.returncode == 0 and done.stderr.count("note: 10 bits a channel are encoded as HEVC") == 1, (
            done.stderr
        )
    for name in ("got.mp4", "streamed.mp4"):
        assert referee.streams(tmp_path / name, "video")[0]["pix_fmt"] == "yuv420p10le"


def test_a_stream_brings_high_dynamic_range_down_where_asked_to_and_says_where_subtitles_are(server, tmp_path):
    env, source = {"UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}, tmp_path / "in.mkv"
    subtitles = tmp_path / "in.srt"
    subtitles.write_text("1\n00:00:00,100 --> 00:00:00,500\nhello\n")
    tags = media.tagged("bt2020nc", "bt2020", "smpte2084")
    media.ffmpeg(
        "-f", "lavfi", "-i", media.PICTURE, "-i", subtitles, "-c:v", "libx265", "-pix_fmt", "yuv420p10le",
        "-x265-params", "log-level=none", *tags, source,
    )  # fmt: skip
    kept = upres("stream", source, tmp_path / "kept.mp4", **env)
    assert kept.returncode == 0, kept.stderr
    done = upres("stream", source, tmp_path / "out.mp4", "--tonemap", **env)
    assert done.returncode == 0 and "subtitles are in the joined result" in done.stderr, done.stderr
    for name, transfer in (("kept.mp4", "smpte2084"), ("out.mp4", "bt709")):
        assert referee.count(tmp_path / name) == 10
        assert referee.streams(tmp_path / name, "video")[0]["color_transfer"] == transfer


def test_keys(tmp_path):
    env = {"UPRES_STATE": str(tmp_path / "state")}
    commands = [("add", "alice"), ("add", "alice"), ("revoke", "alice"), ("list",), ("add", " ")]
    added, again, revoked, listed, nameless = (upres("keys", *words, **env) for words in commands)
    assert added.returncode == 0 and added.stdout.startswith("upres_")
    assert (again.returncode, revoked.returncode, nameless.returncode) == (7, 0, 2)
    assert listed.stdout == "alice (revoked)\n"


def test_wrong_settings_are_all_named(tmp_path):
    (tmp_path / "bad.toml").write_text("slots = ")
    (tmp_path / "unknown.toml").write_text("slot = 3")
    expected = {
        "none.toml": ["no such file"],
        "bad.toml": ["is not TOML"],
        "unknown.toml": ["the settings are state, database, store, results"],
    }
    refused = [upres("serve", "--config", tmp_path / name) for name in expected]
    refused.append(upres("serve", UPRES_STATE=str(tmp_path), UPRES_SLOTS="0", UPRES_QUEUE="x"))
    for wrong, words in zip(
        refused, [*expected.values(), ["UPRES_SLOTS: ", "got '0'", "UPRES_QUEUE: ", "got 'x'"]], strict=True
    ):
        assert wrong.returncode == 2 and all(word in wrong.stderr for word in words), wrong.stderr


def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    expected = [
        ("state folder", {"UPRES_STATE": str(tmp_path / "file" / "state")}),
        ("results cannot be stored", {"UPRES_RESULTS": str(tmp_path / "file" / "results")}),
        ("cannot be read for TLS", {"UPRES_TLS_CERTIFICATE": "/none", "UPRES_TLS_KEY": "/none"}),
        ("not the URL of a supported database", {"UPRES_DATABASE": "nonsense"}),
        ("cannot be used", {"UPRES_DATABASE": f"sqlite:///{tmp_path}/none/x.db"}),
        ("must be one of auto", {"UPRES_RUNTIME": "tpu"}),
    ]
    for number, (words, settings) in enumerate(expected):
        wrong = upres("serve", **{"UPRES_STATE": str(tmp_path / f"state{number}"), **settings})
        output = wrong.stderr.splitlines()
        assert wrong.returncode in (2, 7) and len(output) == 1 and words in output[0], wrong.stderr


def serve_until_ready(tmp_path, stderr=subprocess.STDOUT, **settings):
    """Run `upres serve` until it announces its page; returns the lines of its stdout."""
    state = {"UPRES_STATE": str(tmp_path / "state"), "UPRES_HTTP_PORT": "0", "UPRES_GRPC_PORT": "0", "UPRES_SLOT": "1"}
    environment = {**os.environ, **state, **settings}
    with subprocess.Popen(
        [sys.executable, "-m", "upres", "serve"], env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as server:
        lines = []
        for line in server.stdout:
            lines.append(line)
            if "page: " in line:
                server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    return lines


def test_what_a_server_writes_has_one_format(tmp_path):
    lines = [json.loads(line) for line in serve_until_ready(tmp_path)]
    announced = [line["message"] for line in lines if line["logger"] == "upres.service.cli.serve"]
    assert [text.partition(" ")[0] for text in announced] == ["API", "HTTP", "gRPC", "page:", "stopping"]
    assert any("UPRES_SLOT" in line["message"] and line["level"] == "WARNING" for line in lines)
    text = serve_until_ready(tmp_path, UPRES_LOG_FORMAT="text")
    assert not [line for line in text if line.startswith("{")]
    with (tmp_path / "log").open("w") as log:
        assert serve_until_ready(tmp_path, log)[-1] == "stopping\n"  # stdout alone is for people and programs
        announced = [json.loads(line) for line in serve_until_ready(tmp_path, log, UPRES_LOG_FORMAT="json")]
    assert announced[-1]["message"] == "stopping"
    failed = upres("serve", UPRES_STATE=str(tmp_path / "log" / "state"), UPRES_LOG_FORMAT="json")
    line = json.loads(failed.stderr)
    assert failed.returncode == 7 and line["level"] == "CRITICAL" and "state folder" in line["message"]


def test_a_live_source_comes_through_a_pipe(server, clip, tmp_path):
    env = {"UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}
    command = ["stream", "-", tmp_path / "live.mp4", "--model", "RealESRGAN_Vid_x2", "--live"]
    live = upres(*command, stdin=clip("a.ts"), **env)
    assert live.returncode == 0, live.stderr
    assert referee.count(tmp_path / "live.mp4") == 30 == referee.count(clip("a.ts"))


def test_a_result_comes_through_a_pipe_while_it_is_made(server, clip, tmp_path):
    env = {"UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}
    done = prepared.upres("stream", clip(), "-", "--model", "RealESRGAN_Vid_x2", environment=env)
    assert done.returncode == 0, done.stderr
    (tmp_path / "out.mp4").write_bytes(done.stdout)
    assert referee.count(tmp_path / "out.mp4") == referee.count(clip())
    assert done.stdout.count(b"moof") > 1 and b"stdout: 30 frames in" in done.stderr


def poll(look):
    """Poll a function until its result is truthy, and return it; the test's timeout limits the wait."""
    while not (result := look()):
        time.sleep(0.01)
    return result


@contextmanager
def streaming_live(server, clip, target, stdout=None):
    """Run `upres stream` on a live source that stays open after the clip; yields the process and the job's id."""
    env = {**os.environ, "UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}
    arguments = ["stream", "-", str(target), "--model", "RealESRGAN_Vid_x2", "--live"]
    command = [sys.executable, "-c", "from upres.service.cli.main import main; main()", *arguments]
    with Rpc(server.target) as rpc:
        before = rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs
        pipes = {"stdin": subprocess.PIPE, "stdout": stdout, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, **pipes, text=True, env=env) as streaming:
            streaming.stdin.buffer.write(clip("a.ts").read_bytes())
            streaming.stdin.flush()
            while len(jobs := rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs) == len(before):
                assert streaming.poll() is None
            yield streaming, jobs[0].request_id


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stream_that_is_interrupted_ends_at_once_and_without_a_trace(server, clip, tmp_path, number):
    with streaming_live(server, clip, tmp_path / "live.mp4") as (streaming, request_id):
        streaming.send_signal(number)
        assert streaming.wait(20) == 130, streaming.stderr.read()  # although its source is still open
        output = streaming.stderr.read().splitlines()
        assert (
            next(line for line in output if not line.startswith(("live job", "for LL-HLS players")))
            == "upres: interrupted"
        )
    with Rpc(server.target) as rpc:
        assert list(rpc.watch(request_id))[-1].job.status in (pb.Job.STATUS_DONE, pb.Job.STATUS_ERROR)
    assert {path.name for path in tmp_path.iterdir()} <= {"live.mp4"}  # it exists if a frame was received


@pytest.mark.parametrize("end", ["the client is interrupted", "the server dies"])
def test_what_had_come_of_a_live_stream_is_kept(server, clip, tmp_path, end):
    target = tmp_path / "live.mp4"
    with streaming_live(server, clip, target) as (streaming, _):
        poll(lambda: target.exists() and target.stat().st_size > 20_000)  # it grows while the source is open
        server.kill() if end == "the server dies" else streaming.send_signal(signal.SIGINT)
        code, output = streaming.wait(20), streaming.stderr.read()
    server.start() if end == "the server dies" else None
    assert code == (7 if end == "the server dies" else 130)
    count = referee.count(target)
    assert 0 < count <= 30 and f"{target} holds the {count} frame{'s' * (count > 1)} received so far" in output
    assert list(tmp_path.iterdir()) == [target]


def test_what_had_come_of_a_live_stream_is_in_the_pipe_that_it_was_written_to(server, clip, tmp_path):
    result = tmp_path / "piped.mp4"
    with result.open("wb") as file, streaming_live(server, clip, "-", file) as (streaming, _):
        poll(lambda: result.stat().st_size > 20_000)
        streaming.send_signal(signal.SIGINT)
        assert streaming.wait(20) == 130
        output = streaming.stderr.read()
    assert f"stdout holds the {referee.count(result)} frame" in output


@pytest.fixture(scope="module")
def pulling(tmp_path_factory):
    """Start a server that pulls one stream from a camera."""
    with Camera() as camera:
        streams = {"entrance": f"tcp://localhost:{camera.port}"}
        with ServerProcess(tmp_path_factory.mktemp("pulling") / "state", live_sources=streams, live_slots=2) as process:
            process.camera = camera
            yield process.ready()


def start_stream(server, *words):
    """Start `upres stream`; return the process, and a function that reads stderr up to a line with a word."""
    env = {**os.environ, "UPRES_SERVER": server.target, "UPRES_KEY": KEY, "COLUMNS": "200"}
    command = [sys.executable, "-c", "from upres.service.cli.main import main; main()", "stream", *map(str, words)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    return running, lambda word: next(line for line in running.stderr if word in line)


def test_a_stream_that_the_server_pulls_is_listed_started_read_along_with_and_played(pulling, clip, tmp_path):
    env = {"UPRES_SERVER": pulling.target, "UPRES_KEY": KEY}
    assert upres("sources", **env).stdout == "entrance\n"
    pulling.camera.pieces[:] = [clip("a.ts", 30).read_bytes()]
    small = ("--model", "RealESRGAN_Vid_x2")
    starter, read_until = start_stream(pulling, "live:entrance", tmp_path / "out.mkv", *small)
    with starter:
        request_id = read_until("live job").split()[2].rstrip(":")
        hls = read_until("for LL-HLS players").split(": ")[1].split()[0]
        poll(lambda: (tmp_path / "out.mkv").exists() and (tmp_path / "out.mkv").stat().st_size > 20_000)
        viewer, _ = start_stream(pulling, f"job:{request_id}", tmp_path / "seen.mkv")
        with viewer:
            poll(lambda: (tmp_path / "seen.mkv").exists() and (tmp_path / "seen.mkv").stat().st_size > 20_000)
            with urllib.request.urlopen(pulling.base + hls, timeout=60) as answer:
                assert answer.read().startswith(b"#EXTM3U")
            assert upres("cancel", request_id, **env).returncode == 0
            assert (starter.wait(60), viewer.wait(60)) == (7, 7)
            assert all("the job was cancelled\n" in each.stderr.read() for each in (starter, viewer))
    for name in ("out.mkv", "seen.mkv"):
        assert referee.size(tmp_path / name) == (128, 96) and referee.count(tmp_path / name) > 0


def test_what_the_server_does_not_pull_is_said_and_so_is_what_a_job_that_runs_cannot_be_given(
    server, pulling, tmp_path
):
    out = tmp_path / "out.mkv"
    none = {"UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}
    assert "this server pulls no streams; its operator lists them" in upres("sources", **none).stderr
    refused = upres("stream", "live:door", out, **none)
    assert refused.returncode == 7 and "There is no live_source door; the operator allows none." in refused.stderr
    other = upres("stream", "live:door", out, UPRES_SERVER=pulling.target, UPRES_KEY=KEY)
    assert other.returncode == 7 and "There is no live_source door; there are entrance." in other.stderr
    for words in (("--model", "x2"), ("--when-slow", "drop"), ("--step-down",)):
        done = upres("stream", "job:x", out, *words, **none)
        assert done.returncode == 2 and "remove these options" in done.stderr, done.stderr
    assert "request_id" in upres("stream", "job:x", out, **none).stderr
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_streamed_or_got_is_said_before_anything_is_sent(server, clip, tmp_path):
    env = {"UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}
    source, out, nowhere = clip(), tmp_path / "out.mp4", tmp_path / "no" / "out.mp4"
    own = tmp_path / "own.mp4"
    own.write_bytes(source.read_bytes())
    expected = [
        (3, "none.mp4: no such file", ("stream", tmp_path / "none.mp4", out)),
        (3, "job: no such file", ("stream", "job", out)),
        (2, "job: lacks a name", ("stream", "job:", out)),
        (2, "live: lacks a name", ("stream", "live:", out)),
        (3, "is not a file", ("stream", tmp_path, out)),
        (5, "there is no folder", ("stream", source, nowhere)),
        (5, "is the input itself", ("stream", own, own, "--overwrite")),
        (5, "the name must end in", ("stream", source, tmp_path / "out.avi")),
        (5, "WebM does not support; name it .mp4", ("stream", source, tmp_path / "out.webm")),
        (5, "there is no folder", ("get", "x", nowhere)),
        (5, "exists already", ("get", "x", own)),
        (5, "use a name that ends in .mp4", ("get", "x", tmp_path / "out.mkv")),
        (2, "add --live", ("stream", source, out, "--when-slow", "drop")),
        (2, "HOST:PORT", ("jobs", "--server", "http://127.0.0.1:8081")),
        (2, "HOST:PORT", ("jobs", "--server", "localhost")),
        (2, "contains no PEM certificate", ("jobs", "--ca", source)),
        (7, "does not know this key; on the server, `upres keys list`", ("jobs", "--key", "wrong")),
        (7, "INVALID_ARGUMENT", ("get", "x", out)),
    ]
    for code, words, command in expected:
        done = upres(*command, **env)
        assert done.returncode == code and words in " ".join(done.stderr.split()), done.stderr
    assert own.read_bytes() == source.read_bytes() and list(tmp_path.iterdir()) == [own]
