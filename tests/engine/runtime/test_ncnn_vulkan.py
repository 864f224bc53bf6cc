"""ncnn on Vulkan yields the same results as ONNX Runtime, on Mesa's software Vulkan; messages on machines without a GPU."""

import json
import os
import re
import subprocess
import sys

import pytest

from upres.engine.core.errors import ModelError
from upres.engine.machine import child
from upres.engine.models.catalog import NETWORKS
from upres.engine.runtime import ncnn_vulkan, registry
from upres.engine.runtime.ncnn_vulkan import NcnnVulkan

MEASURED = """
import sys
import numpy as np
from upres.engine.models import manifest
from upres.engine.runtime.ncnn_vulkan import NcnnVulkan
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.tuning.picture import picture
path, pixels = manifest.find(sys.argv[1])[0], picture(48, 40)[None]
graphs = NcnnVulkan().load(path, "fp32"), OnnxRuntimeGraph(path, 1)
ours, reference = (graph.run({"frame": pixels})["upscaled"].astype(int) for graph in graphs)
again = graphs[0].run({"frame": pixels})["upscaled"]
print(graphs[0].report)
print(np.abs(ours - reference).max(), np.mean((ours - reference) ** 2) < 255**2 / 10**8.5, np.array_equal(ours, again))
"""


@pytest.fixture(autouse=True)
def uncached():
    """Clear the cached query before and after a test."""
    ncnn_vulkan.query.cache_clear()
    yield
    ncnn_vulkan.query.cache_clear()


@pytest.mark.parametrize("network", [name for name, each in NETWORKS.items() if each.ships])
def test_networks_that_ship_are_85_db_from_onnx_runtime_and_nowhere_more_than_a_level(network):
    if not child.ask(ncnn_vulkan.__name__).get("devices") and not os.environ.get("CI"):
        pytest.skip("no Vulkan is here; Debian's mesa-vulkan-drivers has one in software")
    done = subprocess.run([sys.executable, "-c", MEASURED, network], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert len(ncnn_vulkan.drivers()) >= 1 and ncnn_vulkan.drivers()[0] == child.ask(ncnn_vulkan.__name__)["drivers"][0]
    report, compared = done.stdout.splitlines()
    assert compared in ("0 True True", "1 True True")
    assert report.startswith("ncnn ") and report.endswith(" fp32") and "CPU fp32" not in report


def test_a_machine_whose_vulkan_shows_nothing_is_told_what_to_install(monkeypatch):
    monkeypatch.setenv("VK_DRIVER_FILES", "/nowhere.json")
    assert "no Vulkan driver is installed; install the GPU's" in NcnnVulkan().unavailable()
    with pytest.raises(ModelError, match="the runtime ncnn-vulkan cannot run here"):
        registry.choose("ncnn-vulkan")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"devices": {"llvmpipe": 3}}, r"Vulkan only offers the CPU \(llvmpipe\), which other runtimes use better"),
        ({"problem": "no answer within 15 s"}, "Vulkan does not respond: no answer within 15 s"),
        ({"devices": {"llvmpipe": 3, "Radeon": 0}}, None),
        ({"devices": {"Apple M2": 1}}, None),
    ],
    ids=json.dumps,
)
def test_only_a_gpu_counts(monkeypatch, answer, expected):
    commands = []
    monkeypatch.setattr(ncnn_vulkan.child, "ask", lambda *words: commands.append(words) or answer)
    states = [NcnnVulkan().unavailable() for _ in range(2)]
    assert len(commands) == 1  # a process per query would slow down every load
    assert states[0] == states[1]
    assert states[0] == expected or re.search(expected, states[0])


def test_it_is_never_taken_unasked_and_needs_ncnn(monkeypatch):
    assert NcnnVulkan().preference == 0 and "ncnn-vulkan" in registry.names()
    monkeypatch.setitem(sys.modules, "ncnn", None)
    assert "pip install ncnn" in NcnnVulkan().unavailable()
