"""Measurements kept as JSON."""

import json

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
