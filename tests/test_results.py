"""The result store, in a folder and in memory."""

import asyncio

import pytest
from upres.engine.errors import TargetError
from upres.service.errors import NotFoundError
from upres.service.results import Results


@pytest.fixture(params=["folder", "memory"])
def results(request, tmp_path):
    return Results(str(tmp_path / "results") if request.param == "folder" else "memory://")


def test_what_was_put_is_read_in_ranges_until_it_is_deleted(results, tmp_path):
    async def scenario():
        path = tmp_path / "file"
        path.write_bytes(bytes(range(256)) * 8192)
        assert await results.put("a.mp4", path) == path.stat().st_size
        assert b"".join([chunk async for chunk in results.read("a.mp4")]) == path.read_bytes()
        assert b"".join([chunk async for chunk in results.read("a.mp4", 5, 9)]) == b"\x05\x06\x07\x08"
        assert [chunk async for chunk in results.read("a.mp4", 9, 9)] == []
        assert await results.keys() == ["a.mp4"]
        await results.delete("a.mp4")
        await results.delete("a.mp4")
        assert await results.keys() == []
        with pytest.raises(NotFoundError):
            await results.size("a.mp4")

    asyncio.run(scenario())


def test_a_file_that_cannot_be_read_is_told(results, tmp_path):
    with pytest.raises(TargetError):
        asyncio.run(results.put("a.mp4", tmp_path / "missing"))
