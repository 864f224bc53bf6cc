"""Runtime caches of engines: saved, reloaded if TensorRT accepts them, bounded, and never a cause of errors."""

import pytest

from upres.engine.runtime.engines import runtime_cache
from upres.engine.runtime.engines.runtime_cache import RuntimeCache, cache_file


class Engine:
    """An engine, its configuration and its cache in one. compiled: by a run. valid: accepted data. taken: loaded data."""

    def __init__(self, compiled=b"kernels", valid=b"kernels"):
        self.compiled, self.valid, self.loaded, self.set = compiled, valid, b"", None

    def create_runtime_config(self):
        return self

    create_runtime_cache = create_runtime_config

    def set_runtime_cache(self, cache):
        self.set = cache

    def create_execution_context(self, config):
        assert config is self and self.set is self
        return "context"

    def deserialize(self, blob):
        self.loaded = blob if blob == self.valid else b""
        return bool(self.loaded)

    def serialize(self):
        return self.compiled


@pytest.fixture
def file(tmp_path):
    return of(tmp_path)


def of(folder, sha256="0123456789abcdef", gpu="NVIDIA L4", driver="580.65", stem="flashvsr-v1.1-tiny-fp16-sm89"):
    return cache_file(folder / f"{stem}.engine", sha256, gpu, driver)


def test_what_was_compiled_is_taken_at_the_next_start(file):
    first = RuntimeCache(Engine(), file)
    assert first.context == "context" and not file.exists()
    first.keep()
    assert file.name == "flashvsr-v1.1-tiny-fp16-sm89.0123456789ab.nvidia-l4-580-65.cache"
    engine = Engine()
    again = RuntimeCache(engine, file)
    assert engine.loaded == b"kernels"
    written = file.stat().st_mtime_ns
    again.keep()
    assert file.stat().st_mtime_ns == written  # nothing was compiled


def test_what_tensorrt_does_not_take_is_compiled_again_and_replaced(file):
    file.write_bytes(b"of another driver")
    engine = Engine()
    RuntimeCache(engine, file).keep()
    assert engine.loaded == b"" and file.read_bytes() == b"kernels"


def test_what_is_of_other_builds_and_of_runs_that_died_goes_and_what_other_machines_keep_stays(file):
    folder = file.parent
    stale = [
        of(folder, "f" * 64, driver=None),
        of(folder, "e" * 64, "NVIDIA L40"),
        file.with_name(f"{file.name}.77.part"),
    ]
    kept = [of(folder, gpu="NVIDIA L40"), of(folder, driver="590.1"), of(folder, "0" * 64, stem="other-fp16-sm89")]
    kept += [folder / "flashvsr-v1.1-tiny-fp16-sm89.engine", folder / "a.cache"]
    for each in (*stale, *kept):
        each.write_bytes(b"old")
    RuntimeCache(Engine(), file).keep()
    assert set(folder.iterdir()) == {file, *kept}


def test_a_cache_that_took_part_in_wrong_results_is_removed(file):
    assert not RuntimeCache(Engine(), file).was_loaded
    file.write_bytes(b"kernels")
    again = RuntimeCache(Engine(), file)
    assert again.was_loaded
    again.forget()
    assert not file.exists()


def test_what_is_too_large_or_cannot_be_written_is_not_kept(file, monkeypatch):
    monkeypatch.setattr(runtime_cache, "MOST_BYTES", 6)
    RuntimeCache(Engine(), file).keep()
    assert not file.exists()
    file.write_bytes(b"kernels")
    engine = Engine()
    RuntimeCache(engine, file)
    assert engine.loaded == b""
    monkeypatch.undo()
    RuntimeCache(Engine(), file.parent / "none" / file.name).keep()
    assert not (file.parent / "none").exists()
