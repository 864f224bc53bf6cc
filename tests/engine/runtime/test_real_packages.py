"""The names that the runtimes for NVIDIA GPUs use exist in the real packages; checking this needs no GPU."""

import importlib
import os

import fake_tensorrt
import pytest

from upres.engine.core.errors import ModelError
from upres.engine.runtime.engines.check import check_validity
from upres.engine.runtime.engines.runtime_cache import is_kept

found = importlib.import_module if os.environ.get("CI") else pytest.importorskip
rtx, lean, cuda = found("tensorrt_rtx"), found("tensorrt_lean_bindings"), found("cuda.core")

KEPT = {
    "ICudaEngine": ("create_runtime_config", "create_execution_context"),
    "IRuntimeConfig": ("create_runtime_cache", "set_runtime_cache"),
    "IRuntimeCache": ("deserialize", "serialize"),
}
CUDA = {
    "Device": ("allocate", "create_stream", "default_stream", "set_current"),
    "Stream": ("close", "handle", "record", "sync", "wait"),
    "Event": ("sync",),
    "Buffer": ("close", "copy_to", "handle", "size"),
    "LegacyPinnedMemoryResource": ("allocate",),
    "StreamOptions": ("nonblocking",),
    "EventOptions": ("blocking_sync",),
}


@pytest.mark.parametrize("package", [rtx, lean], ids=["rtx", "lean"])
def test_tensorrt_has_every_name_that_its_fake_has(package):
    for kind, names in fake_tensorrt.NAMES.items():
        for name in names:
            assert hasattr(getattr(package, kind) if kind else package, name), f"{package} has no {kind}.{name}"
    assert sum(map(len, fake_tensorrt.NAMES.values())) <= 15


def test_what_is_compiled_for_an_engine_is_kept_by_names_that_tensorrt_for_rtx_has():
    assert is_kept(rtx)
    for kind, names in KEPT.items():
        assert all(hasattr(getattr(rtx, kind), name) for name in names)


def test_tensorrt_itself_compiles_nothing_on_the_gpu():
    assert not is_kept(lean)


def test_tensorrt_for_rtx_refuses_what_is_no_engine(tmp_path):
    """The package works without a driver too."""
    runtime = rtx.Runtime(rtx.Logger(rtx.Logger.ERROR))
    with pytest.raises(ModelError, match=r"rejects .*; build it with: upres export x2"):
        check_validity(rtx, runtime, bytes(range(256)), engine=tmp_path / "x2.engine", command="upres export x2")


def test_cuda_core_has_every_name_that_is_used():
    for kind, names in CUDA.items():
        fields = getattr(getattr(cuda, kind), "__dataclass_fields__", {})
        for name in names:
            assert hasattr(getattr(cuda, kind), name) or name in fields, f"cuda.core has no {kind}.{name}"
