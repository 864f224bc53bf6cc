"""FlashVSR on a device that runs late and in any order its waits allow: the same frames, and no leaked memory."""

import importlib
import os

import numpy as np
import pytest
from late import LateGraph, Lazy

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.core.frame import Frame
from upres.engine.models.flashvsr.model import FlashVSR, Options
from upres.engine.runtime.ort import OnnxRuntimeGraph
from upres.engine.runtime.ring.host import HostDevice, HostStream

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from small_flashvsr import WEIGHTS  # noqa: E402 - after the check for torch

from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402

WIDTH, HEIGHT, SCALE = 72, 40, 2  # two tiles of 128x128


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("flashvsr")
    write_graphs(WEIGHTS, path, Settings(profiles=((128, 128),)))
    return path


@pytest.fixture(scope="module")
def frames():
    """Return random frames: two shots, of which the first takes two steps."""
    drawn = np.random.default_rng(0).integers(0, 256, (24, HEIGHT, WIDTH, 3), np.uint8)
    return [Frame(pixels, at, 1, at in (0, 23)) for at, pixels in enumerate(drawn)]


@pytest.fixture
def on(folder, monkeypatch):
    """Return a function that loads the model onto a device with up to two runs in flight, as on a GPU."""
    monkeypatch.setenv("UPRES_RANDOM_WEIGHTS", "1")
    graphs = {}

    def load(device, **options):
        compute = device.stream()

        def late(self, name):
            graphs[name] = graphs.get(name) or OnnxRuntimeGraph(self._folder / name, 1, mapped=True)
            return LateGraph(graphs[name], device, compute)

        monkeypatch.setattr(FlashVSR, "_load", late)
        model = FlashVSR(folder, scale=SCALE, options=Options(**options))
        model._depth = 2
        return model

    return load


def upscaled(model, frames):
    session = model.open(WIDTH, HEIGHT)
    try:
        out = [result.pixels for frame in frames for result in session.push(frame)]
        return np.stack([*out, *(result.pixels for result in session.flush())])
    finally:
        session.close()


@pytest.fixture
def expected(folder, frames, monkeypatch):
    monkeypatch.setenv("UPRES_RANDOM_WEIGHTS", "1")
    return upscaled(FlashVSR(folder, scale=SCALE, options=Options(threads=1)), frames)


@pytest.mark.parametrize("spooled", [False, True])
def test_whatever_order_a_device_works_in_the_frames_are_the_same(on, frames, expected, spooled, tmp_path):
    for seed in range(6):
        device = HostDevice(seed)
        assert np.array_equal(upscaled(on(device, spool=tmp_path if spooled else None), frames), expected), seed
        assert device.in_use == 0


# Streams count from 1, on which graphs run. Each ring has two, in and out. Live: of the first and the later steps of a tile and of
# the other one (2 to 9), the decoder's (10, 11), the projector's (12, 13), of blending a first and a later step (14 to 17). Tile by
# tile: of the transformer's steps (2 to 5), the decoder's (6, 7), a projector's for each tile (8 to 11).
NEEDED = {
    False: {*((1, at) for at in (2, 4, 6, 8, 10, 12)), (11, 1), (13, 1), *(("host", at) for at in (1, 11, 13, 15, 17))},
    True: {
        *((1, at) for at in (2, 4, 6, 8, 10)),
        *((at, 1) for at in (3, 5, 7, 9, 11)),
        *(("host", at) for at in (1, 3, 5, 7, 9, 11)),
    },
}


@pytest.mark.parametrize("spooled", [False, True])
def test_without_any_one_of_the_waits_that_no_other_implies_frames_are_wrong(on, frames, expected, tmp_path, spooled):
    """A ring's final waits are implied if its runs were collected, and a transformer's if the decoder is awaited."""

    shot = len(frames) - 1  # without the second one

    def right(device):
        try:
            results = upscaled(on(device, spool=tmp_path if spooled else None), frames[:shot])
            return np.array_equal(results, expected[:shot])
        except (RuntimeError, ModelError):  # memory freed while in use, or values that are not finite
            return False

    whole = Lazy()
    assert right(whole)
    assert {wait for wait in whole.waits if not right(Lazy(wait))} == NEEDED[spooled]


@pytest.mark.parametrize(("missing", "part"), [(None, "transformer"), ((15, 1), "decoder"), (("host", 15), "decoder")])
def test_latents_that_are_not_finite_are_seen_on_the_device_once_their_check_has_come(on, frames, missing, part):
    model = on(Lazy(missing))
    session = model.open(WIDTH, HEIGHT, noise=lambda latent, rows, columns: np.full((16, rows, columns), np.nan, "f4"))
    with pytest.raises(ModelError, match=f"FlashVSR's {part} gave values that are not finite"):
        for frame in frames:
            list(session.push(frame))


def test_nothing_but_frames_and_what_a_step_begins_with_passes_through_the_host(on, frames, monkeypatch):
    copy, sizes = HostStream.copy, set()
    monkeypatch.setattr(
        HostStream, "copy", lambda self, source, target: sizes.add(source.array.nbytes) or copy(self, source, target)
    )
    model = on(HostDevice(0))
    upscaled(model, frames)
    layout, tile = model.layout(WIDTH, HEIGHT), 128 * 128
    pixels = layout.height * layout.width
    noise, turns = ({count * size for count in (2, 6)} for size in (tile // 64 * 16 * 4, tile // 256 * 64 * 4))
    places, doubt = tile // 256 * 8, 4
    assert sizes == {4 * 3 * pixels, 4 * 4 * 3 * pixels, *noise, *turns, places, doubt}


@pytest.mark.parametrize("spooled", [False, True])
def test_the_memory_that_a_session_takes_is_predicted_to_the_byte(on, frames, tmp_path, spooled, monkeypatch):
    device, most = HostDevice(1), 0
    model = on(device, spool=tmp_path if spooled else None)
    free = HostDevice.free

    def record_and_free(self, memory):
        nonlocal most
        most = max(most, device.in_use)
        free(self, memory)

    monkeypatch.setattr(HostDevice, "free", record_and_free)
    upscaled(model, frames)
    assert device.in_use == 0
    layout = model.layout(WIDTH, HEIGHT)
    networks = model.open(WIDTH, HEIGHT)._networks
    projector = networks.projector(layout.height, layout.width)
    state = sum(part.nbytes for part in (projector, networks.decoder, *networks.transformers))
    places = 128 * 128 // 256 * 8  # which are on their way while less is taken
    assert 0 <= state + sum(model._buffers(layout, spooled=spooled)) - most <= places


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_memory_that_is_short_at_any_place_is_all_given_back(on, part):
    whole = HostDevice()
    session = on(whole).open(WIDTH, HEIGHT)
    device = HostDevice(memory=int(whole.in_use * part))
    session.close()
    with pytest.raises(MemoryShortError):
        on(device).open(WIDTH, HEIGHT)
    assert device.in_use == whole.in_use == 0


@pytest.mark.parametrize("received", [0, 1, 30])
def test_an_abandoned_session_releases_all_memory(on, frames, received):
    for seed in range(4):
        device = HostDevice(seed)
        session = on(device).open(WIDTH, HEIGHT)
        pictures = (picture for frame in (*frames[:23], *frames[:10]) for picture in session.push(frame))
        for _ in range(received):
            next(pictures, None)
        session.close()
        session.close()
        assert device.in_use == 0
