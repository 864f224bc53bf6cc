"""Predicted memory of FlashVSR's sessions, in main memory and on a GPU."""

import importlib
import os
from contextlib import nullcontext

import pytest
from film import film

from upres.engine.core.errors import SourceError
from upres.engine.decode.reader import Reader
from upres.engine.models.flashvsr.model import FlashVSR, Options
from upres.engine.pipeline.admission import check_memory_and_disk
from upres.engine.pipeline.estimate import predict
from upres.engine.pipeline.options import Job

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")


def test_memory_grows_with_the_tiles_kept_in_memory(folder, tmp_path):
    live, spooled = FlashVSR(folder), FlashVSR(folder, options=Options(spool=tmp_path))
    assert live.memory(32, 32) == spooled.memory(32, 32)
    layout = live.layout(70, 50)
    tiles, state = len(layout.tiles), live.manifest.profiles[0].state_bytes
    assert live.memory(70, 50) - spooled.memory(70, 50) > (tiles - 1) * state
    allocated = live.open(70, 50)._networks.transformers[0].nbytes
    assert allocated == state
    assert live.seconds(70, 50) > live.seconds(32, 32) > 0


@pytest.mark.parametrize("side", [32, 1000])  # 4000 pixels are decoded in 3 x 3 parts, each with its own halo and state
def test_memory_counts_the_state_of_every_part_of_the_decoder(folder, tmp_path, side):
    model = FlashVSR(folder, options=Options(spool=tmp_path))
    layout, facts = model.layout(side, side), model.manifest
    networks = model.open(side, side)._networks
    state = networks.transformers[0].nbytes + networks.decoder.nbytes
    state += networks.projector(layout.height, layout.width).nbytes
    state += sum(model._buffers(layout, spooled=side > 32))
    frames = 36 * 3 * layout.height * layout.width
    working = model.memory(side, side) - facts.weight_bytes - frames - state
    assert working >= max(layout.profile.working_bytes, min(layout.height, 1536) ** 2 * facts.decoder_bytes / 2)


def test_on_a_gpu_most_of_the_memory_is_gpu_memory(folder, on_gpu):
    """State and weights count as GPU memory; only frames in transit count as main memory."""
    here, there = FlashVSR(folder), on_gpu(1 << 40)
    here._depth = there._depth
    for live in (False, True):
        layout = here.layout(70, 50)
        joined = 4 * 4 * 3 * layout.height * layout.width
        both = there.gpu_memory(70, 50, live=live) + there.memory(70, 50, live=live)
        assert both == here.memory(70, 50, live=live) + joined
        assert (36 + 21 * live) * 3 * layout.height * layout.width < there.memory(70, 50, live=live)
    networks = there.open(70, 50)._networks
    assert there.gpu_memory(70, 50) > sum(part.nbytes for part in (*networks.transformers, networks.decoder))
    assert (here.gpu_free, here.gpu_memory(70, 50)) == (None, 0)


def test_a_gpu_that_holds_all_tiles_spools_nothing(on_gpu, tmp_path):
    needed = on_gpu(1 << 40).gpu_memory(70, 50)
    for free, spooled in ((needed, False), (needed - 1, True)):
        model = on_gpu(free, spool=tmp_path)
        assert (model.spooled(70, 50, 44) > 0) == spooled
        session = model.open(70, 50)
        assert (session._spool is not None, len(session._networks.transformers) == 1) == (spooled, spooled)
        assert model.gpu_memory(70, 50) <= free
        session.close()


def test_sessions_that_exceed_gpu_memory_are_refused_regardless_of_main_memory(on_gpu):
    needed = on_gpu(0).gpu_memory(32, 32)
    on_gpu(needed).open(32, 32).close()
    model = on_gpu(needed - 1)
    with pytest.raises(SourceError, match=r"needs about .* of the GPU's memory, and .* of it were free"):
        model.open(32, 32)
    assert model.gpu_free == needed - 1


def test_the_prediction_of_a_run_is_refused_by_the_gpus_memory(on_gpu, tmp_path):
    clip = film(tmp_path / "in.mp4", 10, 64, 48)
    for free, refused in ((0, True), (1 << 40, False)):
        job = Job((on_gpu(free, spool=tmp_path),))
        with Reader(clip) as reader:
            prediction = predict(reader, job)
        assert (prediction.gpu, prediction.gpu_free) == (job.models[0].gpu_memory(64, 48), free)
        with pytest.raises(SourceError, match="GPU's memory") if refused else nullcontext():
            check_memory_and_disk(prediction, tmp_path)
