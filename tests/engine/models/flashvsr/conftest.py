"""Fixtures for the tests of FlashVSR: an export of the small reference weights. They require PyTorch."""

import paths
import pytest

from upres.engine.machine import device_memory
from upres.engine.models.flashvsr.model import FlashVSR, Options
from upres.engine.runtime.ort_at_once import GraphAtOnce

TILE = ((128, 128),)


@pytest.fixture(scope="session")
def weights():
    """Return the small reference weights."""
    from upres.export.flashvsr.weights.npz import read_npz

    return read_npz(paths.DATA / "flashvsr" / "weights.npz", heads=4)


@pytest.fixture(scope="session")
def folder(weights, tmp_path_factory):
    """Return the folder of an export with one tile size."""
    from upres.export.flashvsr.graphs.settings import Settings
    from upres.export.flashvsr.graphs.write import write_graphs

    path = tmp_path_factory.mktemp("flashvsr")
    write_graphs(weights, path, Settings(profiles=TILE))
    return path


@pytest.fixture(autouse=True)
def random_weights_allowed(monkeypatch):
    monkeypatch.setenv("UPRES_RANDOM_WEIGHTS", "1")


@pytest.fixture
def on_gpu(folder, monkeypatch):
    """Return a function that loads the model as on a GPU with this many bytes free, but computes on the CPU."""
    monkeypatch.setattr(FlashVSR, "_load", lambda self, name: GraphAtOnce(self._folder / name, 2))

    def load(free, **options):
        monkeypatch.setattr(device_memory, "free", lambda: free)
        return FlashVSR(folder, options=Options(device="cuda", **options))

    return load
