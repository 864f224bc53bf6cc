"""One server process on a machine."""

import socket
import sqlite3
from contextlib import closing

import grpc
import httpx
import pytest
from receiver import receiving
from serving import KEY, Rpc, ServerProcess, free_port

from upres.service.domain.errors import StoreError
from upres.service.server.app import Server
from upres.service.server.settings import Settings
from upres.v2 import upscale_pb2 as pb

CONFIG = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", preset="ultrafast")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as bound:
            bound.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_it_listens_on_ipv6(clip, tmp_path):
    settings = {"host": "::1", "webhook_http": True, "webhook_hosts": ["127.0.0.1"]}
    with receiving(None) as receiver, ServerProcess(tmp_path / "state", **settings) as server:
        web, port = f"http://[::1]:{server.settings['http_port']}", server.settings["grpc_port"]
        with Rpc(f"[::1]:{port}") as rpc:
            assert rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest()).jobs == []
        data = {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast", "webhook_url": receiver.url("127.0.0.1")}
        files, headers = {"video": clip("a.mp4", 1).read_bytes()}, {"Authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"{web}/api/v2/videos/upscales", headers=headers, files=files, data=data, timeout=60)
        assert answer.status_code == 200, answer.text
        assert httpx.get(receiver.bodies(2)[1]["data"]["result_url"], timeout=60).status_code == 200


def test_a_stop_does_not_wait_for_a_source_whose_sender_has_gone(clip, tmp_path):
    with ServerProcess(tmp_path / "state", grace_seconds=600) as server:
        sent = clip("a.ts").read_bytes()
        requests = [
            pb.UpscaleRequest(config=CONFIG),
            pb.UpscaleRequest(chunk=pb.SourceChunk(data=sent[: len(sent) // 2])),
        ]
        with Rpc(server.ready().target) as rpc:
            answers = rpc.call(rpc.upscale.Upscale, iter(requests))
            request_id = next(answers).accepted.request_id
            while (job := rpc.get(request_id)).source_offset < len(sent) // 2 or not job.started_at.seconds:
                pass
            answers.cancel()
        assert server.stop() == 0
        with server.start() as again, Rpc(again.target) as rpc:
            assert rpc.get(request_id).source_offset == len(sent) // 2


def test_a_second_server_on_the_same_state_is_refused_and_touches_nothing(tmp_path):
    with ServerProcess(tmp_path / "state", workers=0):
        upload = tmp_path / "state" / "incoming" / "upload"
        upload.touch()
        with pytest.raises(StoreError, match="another server"):
            Server(Settings(state=tmp_path / "state", http_port=free_port(), grpc_port=free_port()))
        assert upload.exists()


@pytest.mark.soak
def test_a_server_whose_parts_cannot_be_kept_alive_ends_for_a_supervisor_to_start_it_again(tmp_path):
    with ServerProcess(tmp_path / "state", workers=0) as server:
        with closing(sqlite3.connect(tmp_path / "state" / "upres.db")) as database:
            database.execute("DROP TABLE deliveries")
        assert server.wait() == 1
        assert any(line["level"] == "CRITICAL" and "webhooks" in line["message"] for line in server.lines)


@pytest.mark.soak
def test_a_server_whose_worker_cannot_be_kept_alive_ends_too(tmp_path):
    with ServerProcess(tmp_path / "state", models="nowhere:load") as server:
        assert server.wait() == 1
        assert any(line["level"] == "CRITICAL" and "worker 0" in line["message"] for line in server.lines)


def test_a_full_disk_is_reported_by_readiness_and_every_door(clip, tmp_path):
    with ServerProcess(tmp_path / "state", free_bytes=1 << 62) as server:
        with Rpc(server.target) as rpc, pytest.raises(grpc.RpcError) as caught:
            rpc.create(b"x", CONFIG)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "disk" in caught.value.details()
        ready = httpx.get(f"{server.base}/readyz")
        assert ready.status_code == 503 and ready.json()["status"] == "not ready"
        files, headers = {"video": clip("a.mp4", 1).read_bytes()}, {"Authorization": f"Bearer {KEY}"}
        data = {"model": "RealESRGAN_Vid_x2"}
        answer = httpx.post(
            f"{server.base}/api/v2/videos/upscales", headers=headers, files=files, data=data, timeout=60
        )
        assert answer.status_code == 503 and "disk" in answer.json()["message"]
        files["video"] = b"no video, which nobody finds out"
        for path in ("upscales", "upscales/price"):
            answer = httpx.post(
                f"{server.base}/api/v2/videos/{path}", headers=headers, files=files, data=data, timeout=60
            )
            assert answer.status_code == 503 and "disk" in answer.json()["message"]
        assert httpx.get(f"{server.base}/healthz").status_code == 200
