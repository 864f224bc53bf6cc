"""Measurements stored as JSON."""

import json

from upres.engine.machine import host
from upres.engine.machine.host import peak_memory
from upres.export.measurements import record


def test_a_file_keeps_the_parts_that_were_measured_before(tmp_path):
    path = tmp_path / "new" / "results.json"
    record(path, "one", {"seconds": 1})
    record(path, "two", [2])
    record(path, "one", {"seconds": 3})
    document = json.loads(path.read_text())
    assert document["results"] == {"one": {"seconds": 3}, "two": [2]}
    assert document["machine"]["cpus"] > 0
    assert {"python", "numpy", "onnxruntime"} <= document["versions"].keys()


def test_memory_is_in_bytes():
    assert peak_memory() > 10_000_000


def test_processors_of_one_name_differ_by_their_family(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "CPU_FACTS", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor : 1\n")
    assert (host.cpu_name(), host.cpu_family()) == ("AMD EPYC", "family 25 model 17")
    (tmp_path / "cpuinfo").unlink()
    assert host.cpu_family()
