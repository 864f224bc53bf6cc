"""Assignment of GPUs to workers: one each, and none for a runtime on the CPU."""

import pytest

from upres.engine.machine import nvidia
from upres.service.execution import local
from upres.service.execution.base import ExecutorOptions


def own(*numbers):
    return [{"CUDA_VISIBLE_DEVICES": number} for number in numbers]


@pytest.mark.parametrize(
    ("gpus", "workers", "runtime", "expected"),
    [
        ("0,1", None, "cuda", own("0", "1")),
        ("GPU-7a, GPU-2b", None, "tensorrt", own("GPU-7a", "GPU-2b")),
        ("0,1", 3, "cuda", own("0", "1", "0")),
        ("0,1", None, "auto", own("0")),
        ("0,1", None, "onnxruntime", [{}]),
        ("", None, "cuda", [{}]),
        ("", 2, "auto", [{}, {}]),
        ("0", 0, "cuda", []),
    ],
)
def test_every_worker_has_a_gpu_of_its_own(monkeypatch, gpus, workers, runtime, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    assert local.device_environments(workers, runtime) == expected


def test_gpus_are_counted_where_nobody_chose_them(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
        (tmp_path / "gpus" / name / "information").write_text("Model: \t NVIDIA L4\n")
    assert nvidia.visible(tmp_path) == ("0", "1")


def test_a_worker_sees_its_gpu_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    executor = local.LocalExecutor(ExecutorOptions(runtime="cuda", preload=("RealESRGAN_Vid_x2@1280x720",)))
    assert [worker._environment["CUDA_VISIBLE_DEVICES"] for worker in executor._workers] == ["4", "5"]
    assert all(worker._arguments[2:4] == ["--preload", "RealESRGAN_Vid_x2@1280x720"] for worker in executor._workers)
