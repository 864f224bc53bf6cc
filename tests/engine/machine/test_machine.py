"""Queries of the machine, with fake drivers that hang, crash, print garbage or report two GPUs."""

import ctypes
import re
import sys

import pytest

from upres.engine.machine import child, nvidia, nvidia_process, packages, video_engines


class Libcuda:
    """A fake libcuda with two GPUs. error: number and name of an error of cuInit."""

    gpus = (("NVIDIA H100", (9, 0), 80 << 30), ("NVIDIA L4", (8, 9), 24 << 30))

    def __init__(self, error=(0, None)):
        self.error = error

    def cuInit(self, flags):
        return self.error[0]

    def cuGetErrorName(self, code, name):
        name._obj.value = self.error[1]

    def cuDriverGetVersion(self, number):
        number._obj.value = 13010

    def cuDeviceGetCount(self, number):
        number._obj.value = len(self.gpus)

    def cuDeviceGet(self, device, index):
        device._obj.value = index

    def cuDeviceGetName(self, name, length, device):
        name.value = self.gpus[device.value][0].encode()

    def cuDeviceTotalMem_v2(self, memory, device):
        memory._obj.value = self.gpus[device.value][2]

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self.gpus[device.value][1][attribute - nvidia_process.MAJOR]


class Nvml:
    def nvmlInit_v2(self):
        return 0

    def nvmlSystemGetDriverVersion(self, version, length):
        version.value = b"580.65.06"
        return 0


def test_two_gpus_are_read_from_the_driver(monkeypatch, capsys):
    libraries = iter((Libcuda(), Nvml()))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: next(libraries))
    nvidia_process.main()
    monkeypatch.setattr(nvidia, "ask", lambda probe: child._parsed(capsys.readouterr().out))
    driver = nvidia.driver()
    assert (driver.version, driver.cuda, driver.problem) == ("580.65.06", "13.1", None)
    assert driver.gpus == tuple(nvidia.GPU(i, *gpu) for i, gpu in enumerate(Libcuda.gpus))


def test_a_driver_that_does_not_start_says_why():
    result = nvidia_process.devices(Libcuda((100, b"CUDA_ERROR_NO_DEVICE")))
    assert result == {"problem": "the driver does not start: CUDA_ERROR_NO_DEVICE"}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("while True: pass", "no answer within 0.5 s"),
        ("import os; os.abort()", "signal 6"),
        ("raise SystemExit('broken')", r"exit code 1 \(broken\)"),
        ("print('nonsense')", "not understood: 'nonsense'"),
        ("print('[1]')", "not understood"),
        ("pass", "not understood"),
    ],
)
def test_what_hangs_crashes_or_talks_nonsense_is_a_problem_with_a_name(code, message):
    result = child.answer([sys.executable, "-S", "-c", code], seconds=0.5 if "while" in code else 20)
    assert result.keys() == {"problem"} and re.search(message, result["problem"])


def test_what_cannot_be_started_is_a_problem_too(tmp_path):
    assert "No such file" in child.answer([str(tmp_path / "none")], 1)["problem"]


def test_video_engines_are_tried_not_assumed(monkeypatch):
    """Without a GPU neither opens, regardless of FFmpeg's features; with a broken driver both report it."""
    for engine in video_engines.video_engines():
        assert engine.name in ("NVENC", "NVDEC")
        assert engine.problem in (None, nvidia_process.NO_DRIVER) or " open it" in engine.problem or not engine.built_in
        if engine.built_in and nvidia_process.library(nvidia_process.LIBRARIES[0]) is None:
            assert engine.problem == nvidia_process.NO_DRIVER
    monkeypatch.setattr(video_engines, "ask", lambda probe: {"problem": "no answer within 15 s"})
    assert [engine.problem for engine in video_engines.video_engines()] == ["no answer within 15 s"] * 2
    assert [engine.built_in for engine in video_engines.video_engines()] == [None] * 2


def test_gpus_on_the_bus_and_in_the_kernel_are_found_without_a_driver(tmp_path):
    device = tmp_path / "0000:01:00.0"
    device.mkdir()
    (device / "class").write_text("0x030200\n")
    for vendor, there in (("0x8086\n", False), ("0x10de\n", True)):
        (device / "vendor").write_text(vendor)
        assert nvidia.on_bus(tmp_path) is there
    assert nvidia.on_bus(tmp_path / "none") is False
    gpu = tmp_path / "gpus" / "0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t NVIDIA L4\nIRQ:   \t\t 5\n")
    assert nvidia.names(tmp_path) == ("NVIDIA L4",)


def test_two_wheels_of_onnx_runtime_are_seen(tmp_path):
    for name, number in (("onnxruntime", "1.32.0"), ("onnxruntime_gpu", "1.31.1"), ("Cuda_Core", "1.2")):
        folder = tmp_path / f"{name}-{number}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    versions = packages.versions(path=[str(tmp_path)])
    assert versions == {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1", "cuda-core": "1.2"}
    assert packages.both_onnx_runtimes(versions)
    assert not packages.both_onnx_runtimes({"onnxruntime": "1.32.0"})
