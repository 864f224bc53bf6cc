import pytest

from upres.engine.core.errors import ModelError
from upres.export.cli import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path))
    for name, size in (
        ("models/a.onnx", 30),
        ("models/a.json", 5),
        ("models/b-1.1.onnx", 7),
        ("models/flashvsr/fp32/first.onnx", 11),
        ("models/flashvsr/fp32/x.weights", 1000),
        ("downloads/c.pth.part", 9),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0" * size)
    return tmp_path


def test_a_graph_and_its_manifest_are_one_entry_and_so_is_a_folder_of_graphs():
    listed = [(entry.name, entry.bytes) for entry in cache.entries()]
    assert listed == [("a", 35), ("b-1.1", 7), ("c.pth.part", 9), ("flashvsr/fp32", 1011)]


def test_no_cache_is_empty(folder, monkeypatch):
    monkeypatch.setenv("UPRES_CACHE", str(folder / "none"))
    assert cache.entries() == []


def test_entries_are_deleted_whole(folder):
    assert cache.remove(["a", "c.pth.part", "flashvsr/fp32"]) == 1055
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
        "downloads",
        "models",
        "models/b-1.1.onnx",
    ]


def test_all_that_are_missing_are_named_and_nothing_is_deleted():
    with pytest.raises(
        ModelError, match=r"not in the cache: x, y; the cache contains: a, b-1\.1, c\.pth\.part, flashvsr/fp32"
    ):
        cache.remove(["a", "x", "y"])
    assert len(cache.entries()) == 4
