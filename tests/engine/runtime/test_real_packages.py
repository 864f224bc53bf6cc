"""The names that the runtimes for NVIDIA GPUs use exist in the real packages; checking this needs no GPU."""

import ast
import importlib
import inspect
import os

import fake_tensorrt
import pytest

from upres.engine.core.errors import ModelError
from upres.engine.runtime.engines.check import check_validity
from upres.engine.runtime.engines.runtime_cache import is_kept
from upres.engine.runtime.ring import cuda as cuda_device

imported = importlib.import_module if os.environ.get("CI") else pytest.importorskip
rtx, lean, cuda = imported("tensorrt_rtx"), imported("tensorrt_lean_bindings"), imported("cuda.core")

KEPT = {
    "ICudaEngine": ("create_runtime_config", "create_execution_context"),
    "IRuntimeConfig": ("create_runtime_cache", "set_runtime_cache"),
    "IRuntimeCache": ("deserialize", "serialize"),
}
CUDA = {
    "": ("Device", "EventOptions", "LegacyPinnedMemoryResource", "StreamOptions"),
    "Device": ("allocate", "create_stream", "default_stream", "set_current"),
    "Stream": ("close", "handle", "record", "sync", "wait"),
    "Event": ("sync",),
    "Buffer": ("close", "copy_to", "fill", "handle", "size"),
    "LegacyPinnedMemoryResource": ("allocate",),
}
KEYWORDS = {
    "StreamOptions": {"nonblocking"},
    "EventOptions": {"blocking_sync"},
    "create_stream": {"options"},
    "record": {"options"},
    "allocate": {"stream"},
    "copy_to": {"stream"},
    "fill": {"stream"},
}
"""Keyword arguments that are passed, by the function's name."""
KINDS = {
    "core": "",
    "_core": "",
    "_device": "Device",
    "_pinned": "LegacyPinnedMemoryResource",
    "buffer": "Buffer",
    "stream": "Stream",
    "_stream": "Stream",
    "default_stream": "Stream",
    "self.event": "Event",
}
"""The type of cuda-core that an expression of our code has, by its last name."""


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
        for name in names:
            assert hasattr(getattr(cuda, kind) if kind else cuda, name), f"cuda.core has no {kind}.{name}"
    for name, keywords in KEYWORDS.items():
        for owner in [getattr(cuda, kind) if kind else cuda for kind, names in CUDA.items() if name in names]:
            accepted = getattr(owner, name)
            fields = getattr(accepted, "__dataclass_fields__", None) or inspect.signature(accepted).parameters
            assert keywords <= set(fields), f"{owner.__name__}.{name} does not accept {keywords}"


def test_no_name_of_cuda_core_is_used_that_is_not_in_these_lists():
    names, keywords = {}, {}
    for node in ast.walk(ast.parse(inspect.getsource(cuda_device))):
        if isinstance(node, ast.Attribute) and (kind := _kind(node.value)) is not None:
            names.setdefault(kind, set()).add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _kind(node.func.value) is not None:
            keywords.setdefault(node.func.attr, set()).update(each.arg for each in node.keywords)
    assert names == {kind: set(each) for kind, each in CUDA.items()}
    assert {name: each for name, each in keywords.items() if each} == KEYWORDS


def _kind(node):
    """Return the type of cuda-core that an expression has; None if it is none of these."""
    text = ast.unparse(node)
    return KINDS.get(text, KINDS.get(text.rpartition(".")[2]))
