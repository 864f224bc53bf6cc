"""The result store: in a folder, in memory, and in a bucket of an S3 server; and a server whose results lie in one."""

import asyncio
import logging
from urllib.parse import urlsplit

import httpx
import pytest
from moto.server import ThreadedMotoServer
from serving import KEY, Rpc, ServerProcess

from upres.engine.core.errors import TargetError
from upres.service.domain.errors import NotFoundError
from upres.service.storage.results import Results
from upres.v2 import upscale_pb2 as pb

SECRET = "an S3 secret of the operator"


@pytest.fixture(scope="module")
def s3():
    """The address of an S3 server."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch):
    """The URL of an empty bucket's folder; where it is and how it opens is in the environment, as operators have it."""
    values = {"ENDPOINT_URL": s3, "ALLOW_HTTP": "true", "REGION": "us-east-1"}
    for name, value in {**values, "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": SECRET}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    httpx.post(f"{s3}/moto-api/reset").raise_for_status()
    httpx.put(f"{s3}/bucket").raise_for_status()
    return "s3://bucket/results"


@pytest.fixture(params=["folder", "memory", "s3"])
def results(request, tmp_path):
    urls = {"folder": lambda: str(tmp_path / "results"), "memory": lambda: "memory://"}
    return Results(urls.get(request.param, lambda: request.getfixturevalue("bucket"))())


def test_what_was_put_is_read_in_ranges_until_it_is_deleted(results, tmp_path):
    async def scenario():
        path = tmp_path / "file"
        path.write_bytes(bytes(range(256)) * 50_000)
        assert await results.put("a.mp4", path) == path.stat().st_size
        assert b"".join([chunk async for chunk in results.read("a.mp4")]) == path.read_bytes()
        assert b"".join([chunk async for chunk in results.read("a.mp4", 5, 9)]) == b"\x05\x06\x07\x08"
        assert [chunk async for chunk in results.read("a.mp4", 9, 9)] == []
        assert await results.keys() == ["a.mp4"]
        await results.remove("b.mp4", "a.mp4")
        await results.remove("a.mp4")
        assert await results.keys() == []
        with pytest.raises(NotFoundError):
            await results.size("a.mp4")

    asyncio.run(scenario())


def test_a_file_that_cannot_be_read_is_told(results, tmp_path):
    with pytest.raises(TargetError):
        asyncio.run(results.put("a.mp4", tmp_path / "missing"))


def test_a_bucket_that_is_not_there_is_told(bucket, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(TargetError):
        asyncio.run(Results("s3://nowhere/results").put("a.mp4", tmp_path / "file"))


def test_results_in_a_bucket_are_served_through_the_server(bucket, tmp_path, clip):
    """Links are the server's own, whatever store: so that the bucket stays private."""
    config = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", preset="ultrafast")
    with ServerProcess(tmp_path / "state", results=bucket) as server, Rpc(server.target) as rpc:
        request_id = rpc.create(clip("a.mp4", 1).read_bytes(), config).request_id
        assert list(rpc.watch(request_id))[-1].event == "done"
        stored = asyncio.run(Results(bucket).keys())
        assert [key.rpartition("/")[2] for key in stored] == [f"{request_id}.jpg", f"{request_id}.mp4"]
        headers = {"Authorization": f"Bearer {KEY}"}
        data = httpx.get(f"{server.base}/api/v2/jobs/{request_id}", headers=headers).json()["data"]
        assert urlsplit(data["result_url"]).port == server.settings["http_port"]
        whole = rpc.file(request_id)
        assert httpx.get(data["result_url"]).content == whole
        part = httpx.get(data["result_url"], headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole[10:20])
        assert httpx.get(data["preview"]).content[:2] == b"\xff\xd8"
        rpc.call(rpc.jobs.DeleteJob, pb.DeleteJobRequest(request_id=request_id))
        assert httpx.get(data["result_url"]).status_code == 404
        assert asyncio.run(Results(bucket).keys()) == []
    assert SECRET not in server.log.read_text()
