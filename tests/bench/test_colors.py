"""Color conversion by swscale and in graphs is measured on the same frame, with nearly the same results."""

import importlib
import json
import sys

import numpy as np
from paths import ROOT

from upres.engine.core.frame import planes_of


def test_both_ways_convert_the_same_frame_and_are_timed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    bench = importlib.import_module("colors")
    monkeypatch.setattr(bench, "SIZE", (48, 32))
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(sys, "argv", ["colors.py", str(tmp_path / "out.json")])
    bench.main()
    assert json.loads((tmp_path / "out.json").read_text())["cpu_ms"].keys() == {"swscale", "graphs"}
    planes = np.full((48, 48), 90, np.uint8)
    for one, other in zip(planes_of(bench.by_swscale(planes)), bench.Graphs().run(planes), strict=True):
        assert one.shape == other.shape[2:] and abs(one.astype(int) - other[0, 0]).max() <= 1
