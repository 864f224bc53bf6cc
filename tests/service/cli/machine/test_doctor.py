"""`upres doctor` on simulated machines: its findings and remedies."""

import json
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from upres.engine.machine.nvidia import GPU, Driver
from upres.engine.machine.video_engines import VideoEngine
from upres.engine.runtime import registry
from upres.service.cli import app
from upres.service.cli.machine import doctor

H100 = GPU(0, "NVIDIA H100", (9, 0), 80 << 30)
ORIN = GPU(1, "Orin", (8, 7), 64 << 30)
NO_DRIVER = "no driver (libcuda.so.1 is missing)"
CLOSED = "it does not open (Operation not permitted)"
OPEN = (VideoEngine("NVENC", ("h264_nvenc",), None), VideoEngine("NVDEC", ("cuda",), None))
CPU_ONLY = {"onnxruntime": "1.32.0"}


def findings_by_name(driver, installed=CPU_ONLY, engines=OPEN):
    """Return the findings by name."""
    return {finding.name: finding for finding in doctor.findings(driver, dict(installed), engines)}


def with_gpus(*gpus):
    return Driver("580.65", "13.0", gpus, None, on_bus=True)


def test_a_machine_without_a_gpu_misses_nothing():
    rows = findings_by_name(Driver(None, None, (), NO_DRIVER, on_bus=False))
    assert "no NVIDIA GPU is in this machine" in rows["NVIDIA driver"].state
    assert not [finding for finding in rows.values() if finding.remedy or finding.missing]


def test_a_gpu_without_a_driver_is_told_to_get_one():
    driver = findings_by_name(Driver(None, None, (), NO_DRIVER, on_bus=True))["NVIDIA driver"]
    assert "an NVIDIA GPU is in this machine" in driver.state
    assert "install NVIDIA's driver" in driver.remedy and "--gpus all" in driver.remedy


def test_two_gpus_are_named_each_with_what_runs_on_it():
    rows = findings_by_name(with_gpus(H100, ORIN))
    assert rows["NVIDIA driver"].state == "driver 580.65, CUDA 13.0, 2 GPUs"
    assert "NVIDIA H100, compute capability 9.0, 85.9 GB" in rows["GPU 0"].state and rows["GPU 0"].remedy is None
    assert "TensorRT" in rows["GPU 1"].remedy
    assert "onnxruntime-gpu" in rows["ONNX Runtime"].remedy  # the installed wheel has no CUDA


def test_a_gpu_that_no_wheel_has_code_for_is_not_sent_to_get_one():
    rows = findings_by_name(with_gpus(ORIN))
    assert rows["ONNX Runtime"].remedy is None and "TensorRT" in rows["GPU 1"].remedy


@pytest.mark.parametrize(("gpu", "newer"), [(H100, "NVIDIA's driver, 580 or later"), (ORIN, "JetPack 7.2")])
def test_a_driver_that_is_older_than_what_runs_on_it_is_named(monkeypatch, gpu, newer):
    monkeypatch.setattr(doctor.nvidia, "is_jetson", lambda: gpu is ORIN)
    remedy = findings_by_name(Driver("535.183", "12.2", (gpu,), None, on_bus=True))["NVIDIA driver"].remedy
    assert "too old for CUDA 13" in remedy and f"install {newer}" in remedy
    assert findings_by_name(with_gpus(H100))["NVIDIA driver"].remedy is None


@pytest.mark.parametrize(("package", "advised"), [({}, True), ({"cuda-core": "1.2.2"}, False)])
def test_the_wheel_for_gpus_alone_does_not_make_a_runtime(package, advised):
    remedy = findings_by_name(with_gpus(H100), {"onnxruntime-gpu": "1.31.1", **package})["ONNX Runtime"].remedy
    assert (remedy is not None and "pip install 'upres[cuda]'" in remedy) == advised


def test_two_wheels_at_once_are_named_with_the_one_command_that_leaves_the_right_one():
    both = CPU_ONLY | {"onnxruntime-gpu": "1.31.1"}
    runtime = findings_by_name(with_gpus(H100), both)["ONNX Runtime"]
    assert "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1, two wheels at once" in runtime.state
    assert runtime.remedy.endswith("pip install 'onnxruntime-gpu[cuda,cudnn]'")
    without = findings_by_name(Driver(None, None, (), NO_DRIVER, on_bus=False), both)["ONNX Runtime"]
    assert without.remedy.endswith("pip install onnxruntime")


def test_nvenc_that_is_not_there_is_explained_by_its_reason():
    closed = (VideoEngine("NVENC", ("h264_nvenc",), CLOSED), VideoEngine("NVDEC", (), "built without it"))
    rows = findings_by_name(with_gpus(H100), engines=closed)
    assert CLOSED in rows["NVENC"].state and "H100, H200 and A100 have no NVENC" in rows["NVENC"].remedy
    assert "--no-binary av" in rows["NVDEC"].remedy
    assert findings_by_name(with_gpus(H100))["NVENC"].remedy is None


def test_video_engines_that_could_not_be_tested_are_not_called_missing():
    engines = tuple(VideoEngine(name, None, "Permission denied") for name in ("NVENC", "NVDEC"))
    rows = findings_by_name(with_gpus(H100), engines=engines)
    assert rows["NVDEC"].state == "could not be tested: Permission denied" and rows["NVDEC"].remedy is None


def test_versions_of_what_engines_need_are_shown():
    installed = CPU_ONLY | {"cuda-core": "1.2.0", "tensorrt-cu13": "11.4.0", "tensorrt-rtx": "1.7.1"}
    rows = findings_by_name(with_gpus(H100), installed)
    assert rows["cuda-core"].state == "cuda-core 1.2.0"
    assert rows["TensorRT"].state == "tensorrt-cu13 11.4.0"
    assert rows["TensorRT for RTX"].state == "tensorrt-rtx 1.7.1"
    assert findings_by_name(with_gpus(H100))["TensorRT"].state == "not installed"


def test_a_runtime_that_is_broken_is_a_finding_and_no_crash(monkeypatch):
    entry = EntryPoint("broken", "upres.nowhere:Nothing", registry.GROUP)
    monkeypatch.setattr(registry, "_entries", lambda: {"broken": entry})
    rows = findings_by_name(Driver(None, None, (), NO_DRIVER, on_bus=False))
    assert "ModuleNotFoundError" in rows["runtime broken"].state
    assert rows["runtimes"].missing and "pip install onnxruntime" in rows["runtimes"].remedy


@pytest.mark.parametrize("missing", [True, False])
def test_what_is_missing_ends_in_exit_code_1(monkeypatch, missing):
    rows = [doctor.Finding("network x", "not in the package", "pip install it", missing=missing)]
    monkeypatch.setattr(doctor, "findings", lambda *arguments: rows)
    monkeypatch.setattr(doctor, "video_engines", lambda: OPEN)
    done = CliRunner().invoke(app.build(), ["doctor", "--json"])
    assert done.exit_code == missing
    assert json.loads(done.stdout)[0]["remedy"] == "pip install it"
