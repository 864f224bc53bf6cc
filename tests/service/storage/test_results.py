"""The result store in a folder, in memory, and in a bucket of an S3 server; and a server with its results in a bucket."""

import asyncio
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import obstore
import pytest
from faulty_store import access, s3_server
from obstore.exceptions import GenericError
from serving import KEY, Rpc, ServerProcess

from upres.engine.core.errors import TargetError
from upres.service.domain.errors import NotFoundError, UnavailableError
from upres.service.storage import results as results_module
from upres.service.storage.results import READ_TRIES, Results
from upres.v2 import upscale_pb2 as pb

SECRET = "an S3 secret of the operator"


@pytest.fixture(scope="module")
def s3():
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(s3, monkeypatch):
    """Return the URL of a prefix in an empty bucket; endpoint and credentials are in the environment, as operators set them."""
    for name, value in {**access(s3), "AWS_SECRET_ACCESS_KEY": SECRET}.items():
        monkeypatch.setenv(name, value)
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


class Broken:
    """Response of a store that ends after some chunks, with an error unless `error` is None."""

    def __init__(self, chunks, error):
        self.chunks, self.error = chunks, error

    async def stream(self, min_chunk_size):
        for chunk in self.chunks:
            yield chunk
        if self.error is not None:
            raise self.error


def read_through(monkeypatch, answers):
    """Read ten bytes from a store with these responses; return the bytes, the error, and the requested ranges."""
    requested_ranges, answers = [], iter(answers)

    async def get(store, key, options):
        requested_ranges.append(options["range"])
        return next(answers)

    monkeypatch.setattr(results_module.obstore, "get_async", get)
    monkeypatch.setattr(results_module, "READ_PAUSE", 0)

    async def scenario():
        received = b""
        try:
            async for chunk in Results("memory://").read("a.mp4", 0, 10):
                received += chunk
        except UnavailableError as error:
            return received, str(error)
        return received, None

    return *asyncio.run(scenario()), requested_ranges


@pytest.mark.parametrize("error", [OSError("reset"), GenericError("a body that took too long"), None])
def test_a_store_that_breaks_off_is_asked_for_the_rest(monkeypatch, error):
    answers = [Broken([b"0123"], error), Broken([], error), Broken([b"45", b"6"], error), Broken([b"789"], None)]
    received, failed, requested_ranges = read_through(monkeypatch, answers)
    assert (received, failed) == (b"0123456789", None)
    assert requested_ranges == [(0, 10), (4, 10), (4, 10), (7, 10)]


def test_a_reader_that_gets_no_more_is_told_so_after_some_tries(monkeypatch):
    answers = [Broken([b"0123"], OSError("reset")), *(Broken([], OSError("reset")) for _ in range(READ_TRIES))]
    received, failed, requested_ranges = read_through(monkeypatch, answers)
    assert received == b"0123" and "does not return the rest of a result; try again later" in failed
    assert len(requested_ranges) == 1 + READ_TRIES


def test_what_the_store_has_not_whole_is_not_stored(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"0123456789")

    async def half(store, key, path, **_):
        await obstore.put_async(store, key, b"01234")

    monkeypatch.setattr(results_module, "obstore", SimpleNamespace(**{**vars(obstore), "put_async": half}))
    with pytest.raises(TargetError, match="the store has 5 of its 10 bytes"):
        asyncio.run(Results("memory://").put("a.mp4", tmp_path / "file"))


@pytest.mark.parametrize("step", ["size", "remove"])
def test_a_store_that_does_not_answer_keeps_nobody_waiting(monkeypatch, step):
    async def hangs(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(results_module.obstore, "head_async", hangs)
    monkeypatch.setattr(results_module.obstore, "delete_async", hangs)
    monkeypatch.setattr(results_module, "ANSWER_SECONDS", 0.01)
    expected = UnavailableError if step == "size" else TargetError
    with pytest.raises(expected, match=r"the result store (does not respond|cannot remove)"):
        asyncio.run(getattr(Results("memory://"), step)("a.mp4"))


def test_results_in_a_bucket_are_served_through_the_server(bucket, tmp_path, clip):
    """Links always point to the server, so that the bucket stays private."""
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
