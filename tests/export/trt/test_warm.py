"""`upres warm` on a fake TensorRT: only missing and stale engines are built."""

import sys

import fake_tensorrt
import pytest
from typer.testing import CliRunner

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.models import manifest
from upres.engine.runtime import trt
from upres.engine.runtime.ring.host import HostDevice
from upres.export.cli import warm as command
from upres.export.trt import warm
from upres.export.trt.engine import Engine

X2 = "realesr-animevideov3-x2"
SHAPE = (1, 28, 36, 3)  # a padded frame of 32x24


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """Simulate a machine with TensorRT; yields the built engines and a fault to apply to later builds."""
    path, facts = manifest.find(X2)
    built, fault = [], {}
    device = HostDevice()
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path))
    monkeypatch.setattr(trt.nvidia, "driver", lambda: fake_tensorrt.DRIVER)
    monkeypatch.setattr(trt.cuda, "CudaDevice", lambda: device)
    monkeypatch.setattr(trt.cuda, "unavailable", lambda: None)
    monkeypatch.setattr(trt.Cuda, "unavailable", lambda self: "no provider here")
    monkeypatch.setattr("upres.engine.machine.device_memory.free", lambda device=0: 8 << 30)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt.module(device)[0])

    def build(request):
        built.append((request.target, request.precision, request.size))
        engine = fake_tensorrt.build(tmp_path / "engines", path, request.precision, SHAPE, facts.scale, **fault)
        yield Engine(path.name, engine, engine.stat().st_size, "", 0.1)

    monkeypatch.setattr(warm, "build", build)
    return built, fault


def run_warm(*arguments):
    app = command.typer.Typer()
    app.command()(command.warm)
    done = CliRunner().invoke(app, [X2, "--target", "tensorrt", *arguments], catch_exceptions=False)
    return done.output


def test_what_is_missing_is_built_once_and_what_is_stale_again(builds, tmp_path):
    built, _ = builds
    assert f"{X2} is ready for frames of 32x24\n" in run_warm("--size", "32x24")
    assert f"{X2} was already ready for frames of 32x24\n" in run_warm("--size", "32x24")
    assert built == [("tensorrt", "fp16", "32x24")]
    [engine] = (tmp_path / "engines").glob("*.engine")
    engine.write_bytes(engine.read_bytes()[:-1])
    run_warm("--size", "32x24", "--size", "32x24")
    run_warm("--size", "32x24", "--quality", "exact")
    assert built == [("tensorrt", "fp16", "32x24")] * 2 + [("tensorrt", "fp32", "32x24")]


def test_what_cannot_be_used_even_when_it_is_new_is_an_error(builds):
    _, fault = builds
    fault["wrong"] = True
    with pytest.raises(ModelError, match="does not compute what it was built for"):
        run_warm("--size", "32x24")


def test_where_engines_cannot_run_none_is_built(builds, monkeypatch):
    built, _ = builds
    monkeypatch.setattr(trt.cuda, "unavailable", lambda: "no NVIDIA driver is here")
    expected = rf"tensorrt cannot run here: no NVIDIA driver is here; `upres export {X2} --target tensorrt` builds without running"
    with pytest.raises(ModelError, match=expected):
        run_warm("--size", "32x24")
    assert not built


def test_every_option_that_is_wrong_is_named(builds):
    with pytest.raises(SettingsError, match=r"--size must be WxH.*not 720p; --quality must be high or exact, not best"):
        run_warm("--size", "720p", "--quality", "best")
