"""The service's commands, as a user calls them."""

import os
import signal
import subprocess
import sys

import media
import pytest
import referee
from serving import KEY, Rpc, ServerProcess, upres
from upres.v2 import upscale_pb2 as pb


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state") as process:
        yield process


def test_submit_get_and_stream(server, clip, tmp_path):
    env = {"UPRES_SERVER": server.target, "UPRES_KEY": KEY}
    submitted = upres("submit", clip(), "--model", "RealESRGAN_Vid_x2", **env)
    assert submitted.returncode == 0, submitted.stderr
    got = upres("get", submitted.stdout.strip(), tmp_path / "got.mp4", **env)
    assert got.returncode == 0 and got.stderr.endswith("got.mp4: 30 frames in, 30 out\n"), got.stderr
    streamed = upres(
        "stream", clip(), tmp_path / "streamed.mp4", "--model", "RealESRGAN_Vid_x2", "--delivery", "frames", **env
    )
    assert streamed.returncode == 0 and "streamed.mp4: 30 frames in, 30 out\n" in streamed.stderr, streamed.stderr
    assert referee.packets(tmp_path / "got.mp4") == referee.packets(tmp_path / "streamed.mp4")
    again = upres("cancel", submitted.stdout.strip(), **env)
    assert again.returncode == 1 and "done" in again.stderr
    assert upres("watch", submitted.stdout.strip(), **env).returncode == 0
    assert upres("submit", clip(), UPRES_SERVER=server.target).returncode == 2


def test_what_a_user_should_know_of_a_job_is_told_by_get_and_by_stream(server, tmp_path):
    env = {"UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}
    source = media.clip(tmp_path / "in.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv420p10le", picture=media.SMOOTH)
    submitted = upres("submit", source, "--model", "RealESRGAN_Vid_x2", **env)
    got = upres("get", submitted.stdout.strip(), tmp_path / "got.mp4", **env)
    streamed = upres("stream", source, tmp_path / "streamed.mp4", "--model", "RealESRGAN_Vid_x2", **env)
    for done in (got, streamed):
        assert done.returncode == 0 and done.stderr.count("note: the source's 10 bits a channel become 8") == 1, (
            done.stderr
        )


def test_keys(tmp_path):
    env = {"UPRES_STATE": str(tmp_path / "state")}
    made = upres("keys", "add", "alice", **env)
    assert made.returncode == 0 and made.stdout.startswith("upres_")
    assert upres("keys", "add", "alice", **env).returncode == 1
    assert upres("keys", "revoke", "alice", **env).returncode == 0
    assert upres("keys", "list", **env).stdout == "alice (revoked)\n"


def test_wrong_settings_are_all_named(tmp_path):
    wrong = upres("serve", UPRES_STATE=str(tmp_path), UPRES_SLOTS="0", UPRES_QUEUE="x")
    assert wrong.returncode == 2 and "slots" in wrong.stderr and "queue" in wrong.stderr
    missing = upres("serve", "--config", tmp_path / "none.toml")
    assert missing.returncode == 2 and "none.toml" in missing.stderr


def test_a_live_source_comes_through_a_pipe(server, clip, tmp_path):
    env = {"UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}
    command = ["stream", "-", tmp_path / "live.mp4", "--model", "RealESRGAN_Vid_x2", "--live"]
    live = upres(*command, stdin=clip("a.ts"), **env)
    assert live.returncode == 0, live.stderr
    assert referee.count(tmp_path / "live.mp4") == 30 == referee.count(clip("a.ts"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stream_that_is_interrupted_ends_at_once_and_without_a_trace(server, clip, tmp_path, number):
    env = {**os.environ, "UPRES_SERVER": server.ready().target, "UPRES_KEY": KEY}
    arguments = ["stream", "-", str(tmp_path / "live.mp4"), "--model", "RealESRGAN_Vid_x2", "--live"]
    command = [sys.executable, "-c", "from upres.service.cli import main; main()", *arguments]
    with Rpc(server.target) as rpc:
        before = rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as streaming:
            streaming.stdin.write(clip("a.ts").read_bytes())
            streaming.stdin.flush()
            while len(jobs := rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs) == len(before):
                assert streaming.poll() is None
            streaming.send_signal(number)
            assert streaming.wait(20) == 130, streaming.stderr.read()  # though its source is still open
            assert streaming.stderr.read() == b""
        assert list(rpc.watch(jobs[0].request_id))[-1].job.status in (pb.Job.STATUS_DONE, pb.Job.STATUS_ERROR)
    assert not list(tmp_path.iterdir())
