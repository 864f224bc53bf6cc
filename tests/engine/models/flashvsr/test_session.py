"""FlashVSR's session: exact frame counts and times, shots, tiles, sizes; graphs from the small reference weights."""

import errno
import importlib
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import paths
import pytest
import referee
from film import film

from upres.engine.core.errors import Interrupted, ModelError, SettingsError, SourceError, TargetError
from upres.engine.core.frame import Frame
from upres.engine.decode.reader import Reader
from upres.engine.machine import device_memory
from upres.engine.models.flashvsr import manifest
from upres.engine.models.flashvsr.loading import load_token_cuts
from upres.engine.models.flashvsr.model import FlashVSR, Options
from upres.engine.models.flashvsr.networks import Decoder, Transformer, draw_noise, rotation
from upres.engine.models.flashvsr.tiles import Tile
from upres.engine.models.flashvsr.tokens import TokenCut
from upres.engine.pipeline.admission import check_memory_and_disk
from upres.engine.pipeline.estimate import predict
from upres.engine.pipeline.options import Job
from upres.engine.runtime.ort_at_once import GraphAtOnce
from upres.engine.runtime.ring.resident import Resident

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402 - after the check for torch
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402
from upres.export.flashvsr.verify.golden import read_golden  # noqa: E402
from upres.export.flashvsr.weights.npz import read_npz  # noqa: E402

DATA = paths.DATA / "flashvsr"
TILE = ((128, 128),)


@pytest.fixture(scope="module")
def weights():
    return read_npz(DATA / "weights.npz", heads=4)


@pytest.fixture(scope="module")
def folder(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("flashvsr")
    write_graphs(weights, path, Settings(profiles=TILE))
    return path


@pytest.fixture(autouse=True)
def random_weights_allowed(monkeypatch):
    monkeypatch.setenv("UPRES_RANDOM_WEIGHTS", "1")


def clip(count, width=32, height=32, *, shots=()):
    """Return frames of a coarse, moving random texture with irregular timestamps."""
    texture = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    at = [t % 100 for t in range(count)]
    return [
        Frame(texture[a : a + height, 2 * a : 2 * a + width], 7 * t + t % 3, 7 + t % 2, t in shots)
        for t, a in enumerate(at)
    ]


def test_a_gpu_is_asked_how_fast_it_is_and_takes_the_export_of_16_bits(folder, monkeypatch, tmp_path):
    model = FlashVSR(folder, scale=2)
    model._options = replace(model._options, device="cuda")  # the graphs stay on the CPU
    assert 0 < model.seconds(64, 64) < model.seconds(640, 640)
    monkeypatch.setenv("UPRES_CACHE", str(tmp_path))
    network = model.manifest.network
    for precision in ("fp32", "fp16"):
        manifest.folder_of(network, precision).mkdir(parents=True)
        (manifest.folder_of(network, precision) / manifest.FILE).touch()
    assert manifest.find(network).name == "fp32"
    assert manifest.find(network, half=True).name == "fp16"


def upscale(model, frames, **options):
    session = model.open(frames[0].width, frames[0].height, **options)
    out = [result for frame in frames for result in session.push(frame)]
    out += session.flush()
    session.close()
    return out


def stack(frames):
    return np.stack([frame.pixels for frame in frames]).astype(int)


@pytest.mark.parametrize("count", [1, 2, 21, 24, 25, 26, 29, 30, 100])
def test_as_many_frames_come_out_with_their_times(folder, count):
    frames = clip(count)
    out = upscale(FlashVSR(folder), frames)
    assert [(frame.pts, frame.duration) for frame in out] == [(frame.pts, frame.duration) for frame in frames]
    assert {frame.pixels.shape for frame in out} == {(128, 128, 3)}


@pytest.mark.parametrize(("count", "decoded"), [(1, 1), (2, 2), (21, 6), (22, 7), (30, 9)])
@pytest.mark.parametrize("width", [32, 70])
def test_only_what_is_shown_is_decoded(folder, tmp_path, monkeypatch, count, decoded, width):
    submit, made = Decoder.submit, []
    monkeypatch.setattr(Decoder, "submit", lambda self, *given: made.append(given) or submit(self, *given))
    upscale(FlashVSR(folder, options=Options(spool=tmp_path)), clip(count, width))
    assert len(made) == decoded


@pytest.mark.parametrize(("scale", "width", "height"), [(2, 31, 17), (3, 41, 27), (4, 32, 31), (4, 1, 1)])
def test_the_size_is_exactly_scale_times_the_input(folder, scale, width, height):
    out = upscale(FlashVSR(folder, scale=scale), clip(3, width, height))
    assert {frame.pixels.shape for frame in out} == {(height * scale, width * scale, 3)}


def test_the_first_frames_come_after_25_and_then_8_at_a_time(folder):
    session = FlashVSR(folder).open(32, 32)
    counts = [len(list(session.push(frame))) for frame in clip(42)]
    assert counts == [0] * 24 + [21] + [0] * 7 + [8] + [0] * 7 + [8] + [0]
    assert len(list(session.flush())) == 5


def test_a_session_equals_the_public_implementation(weights, tmp_path, monkeypatch):
    golden = read_golden(DATA / "pipeline_dense.npz")
    write_graphs(weights, tmp_path, Settings(profiles=((256, 256),), topk_ratio=golden.topk_ratio))
    # The reference starts from upscaled frames, so each source frame only contains its number.
    monkeypatch.setattr(
        "upres.engine.models.flashvsr.shot.upscale", lambda pixels, scale: golden.frames[pixels[0, 0, 0]]
    )
    frames = [Frame(np.full((64, 64, 3), t, np.uint8), t, 1) for t in range(len(golden.frames))]
    session = FlashVSR(tmp_path).open(64, 64, noise=lambda latent, rows, columns: golden.noise[0, :, latent])
    out = [result for frame in frames for result in session.push(frame)]
    expected = ((golden.expected["out"].transpose(1, 2, 3, 0) + 1) * 127.5).astype(np.uint8)
    difference = np.abs(stack([out[at] for at in golden.expected["out_index"]]) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_a_shot_starts_anew(folder):
    model = FlashVSR(folder)
    frames = clip(60, shots=(0, 27))
    together = upscale(model, frames)
    apart = upscale(model, frames[:27]) + upscale(model, frames[27:])
    assert (stack(together) == stack(apart)).all()
    assert [frame.shot for frame in together] == [frame.shot for frame in frames]


def test_two_sessions_of_one_model_do_not_meet(folder):
    model = FlashVSR(folder)
    one, other = clip(33), clip(70)[37:]
    sessions = model.open(32, 32), model.open(32, 32)
    mixed: list[list[Frame]] = [[], []]
    for pair in zip(one, other, strict=True):
        for session, frame, out in zip(sessions, pair, mixed, strict=True):
            out.extend(session.push(frame))
    for session, out in zip(sessions, mixed, strict=True):
        out.extend(session.flush())
    assert (stack(mixed[0]) == stack(upscale(model, one))).all()
    assert (stack(mixed[1]) == stack(upscale(model, other))).all()


@pytest.mark.parametrize(("scale", "width", "height"), [(4, 32, 32), (4, 70, 50), (3, 61, 71)])
def test_tile_by_tile_over_a_shot_equals_all_tiles_live(folder, tmp_path, scale, width, height):
    frames = clip(44, width, height, shots=(30,))
    live = upscale(FlashVSR(folder, scale=scale), frames)
    spooled = upscale(FlashVSR(folder, scale=scale, options=Options(spool=tmp_path)), frames)
    assert (stack(live) == stack(spooled)).all()
    assert list(tmp_path.iterdir()) == []


def test_what_a_shot_takes_on_disk_is_predicted(folder, tmp_path):
    model = FlashVSR(folder, options=Options(spool=tmp_path / "spool"))
    assert (model.spooled(32, 32, 44), FlashVSR(folder).spooled(70, 50, 44)) == (0, 0)  # one tile, and live
    session = model.open(70, 50)
    for frame in clip(44, 70, 50):
        assert list(session.push(frame)) == []
    next(session.flush())
    files = session._shot._frames, session._shot._latents
    assert sum(os.fstat(file.fileno()).st_size for file in files) == model.spooled(70, 50, 44)
    session.close()


def test_a_folder_that_may_not_be_written_to_needs_no_room(folder, tmp_path, monkeypatch):
    def refused(dir):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    session = FlashVSR(folder, options=Options(spool=tmp_path)).open(70, 50)
    with pytest.raises(TargetError, match=r"cannot spool a shot to .*: Permission denied$"):
        list(session.push(clip(1, 70, 50)[0]))
    session.close()


def test_a_disk_that_fills_while_a_shot_is_spooled(folder, tmp_path, monkeypatch):
    def full(dir):
        return Path("/dev/full").open("r+b")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    session = FlashVSR(folder, options=Options(spool=tmp_path)).open(70, 50)
    with pytest.raises(TargetError, match=r"cannot spool a shot to .*: No space left on device; make room there"):
        for frame in clip(30, 70, 50):
            list(session.push(frame))
    session.close()


def test_a_session_that_is_stopped_does_not_finish_its_shot(folder, tmp_path):
    model, before = FlashVSR(folder, options=Options(spool=tmp_path)), referee.held()
    session = model.open(70, 50)
    for frame in clip(30, 70, 50):
        list(session.push(frame))
    session.stop()
    with pytest.raises(Interrupted):
        list(session.flush())
    with pytest.raises(Interrupted):
        list(session.push(clip(1, 70, 50)[0]))
    session.close()
    assert referee.held() <= before


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_session_closed_before_its_pictures_are_taken_leaves_nothing(folder, taken):
    model, before = FlashVSR(folder), referee.held()
    session = model.open(32, 32)
    *held, last = clip(25)
    assert [picture for frame in held for picture in session.push(frame)] == []
    pictures = session.push(last)
    for _ in range(taken):
        next(pictures)
    session.close()
    assert referee.held() <= before


@pytest.mark.parametrize("width", [32, 70])
def test_a_live_session_that_is_stopped_ends_with_the_step_of_a_tile(folder, monkeypatch, width):
    session = FlashVSR(folder).open(width, 32)
    push, made = Transformer.push, []

    def stopped(self, *given):
        made.append(given)
        session.stop()
        return push(self, *given)

    monkeypatch.setattr(Transformer, "push", stopped)
    for frame in clip(24, width, 32):
        list(session.push(frame))
    with pytest.raises(Interrupted):
        list(session.flush())
    assert len(made) == 1
    session.close()


def test_values_that_are_not_finite_are_an_error_and_never_pictures(folder):
    with pytest.raises(
        ModelError, match=r"transformer gave values that are not finite.* with .precision. bf16 or fp32"
    ):
        upscale(
            FlashVSR(folder), clip(1), noise=lambda latent, rows, columns: np.full((16, rows, columns), np.nan, "f4")
        )
    decoder = Decoder(GraphAtOnce(folder / "decoder.onnx", 2), 128, 128)
    decoder.start()
    with pytest.raises(ModelError, match="decoder gave values that are not finite"):
        decoder.push(np.full((1, 16, 16, 16), np.nan, np.float32), np.zeros((4, 128, 128, 3), np.uint8))


def test_tiles_are_close_to_the_whole_frame(weights, folder, tmp_path):
    write_graphs(weights, tmp_path, Settings(profiles=((256, 256),)))
    frames = clip(37, 64, 64)
    whole, tiled = (stack(upscale(FlashVSR(path), frames)) for path in (tmp_path, folder))
    assert len(FlashVSR(folder).layout(64, 64).tiles) > 1
    psnr = 10 * np.log10(255**2 / np.mean((whole - tiled) ** 2))
    assert psnr > 40, f"{psnr = :.1f} dB"


def test_memory_grows_with_the_tiles_that_are_held(folder, tmp_path):
    live, spooled = FlashVSR(folder), FlashVSR(folder, options=Options(spool=tmp_path))
    assert live.memory(32, 32) == spooled.memory(32, 32)
    layout = live.layout(70, 50)
    tiles, state = len(layout.tiles), live.manifest.profiles[0].state_bytes
    assert live.memory(70, 50) - spooled.memory(70, 50) > (tiles - 1) * state
    held = live.open(70, 50)._networks.transformers[0].nbytes
    assert held == state
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


def test_decoding_in_parts_is_exact(folder):
    graph = GraphAtOnce(folder / "decoder.onnx", 2)
    height, width = 272, 528
    whole, parts = Decoder(graph, height, width), Decoder(graph, height, width, part=300)
    source = np.random.default_rng(0)
    for decoder in (whole, parts):
        decoder.start()
    for _ in range(2):
        frames = source.integers(0, 256, (4, height, width, 3), dtype=np.uint8)
        latents = source.standard_normal((1, 16, height // 8, width // 8), np.float32)
        assert np.abs(whole.push(latents, frames) - parts.push(latents, frames)).max() < 1e-6


def test_frames_of_another_size_are_refused(folder):
    with pytest.raises(SourceError, match="32x30 came into a session of 32x32"):
        list(FlashVSR(folder).open(32, 32).push(clip(1, 32, 30)[0]))


def test_other_scales_are_refused(folder):
    with pytest.raises(SettingsError, match="2, 3, 4 times, not 5 times"):
        FlashVSR(folder, scale=5)


def test_bfloat16_on_a_cpu_is_refused_before_anything_is_loaded(weights, tmp_path):
    write_graphs(weights, tmp_path, Settings(TILE, "bf16"))
    with pytest.raises(ModelError, match="is in bf16, which ONNX Runtime does not compute on a CPU; export it in fp32"):
        FlashVSR(tmp_path)


def test_the_report_names_the_precision_that_runs(weights, folder, tmp_path):
    write_graphs(weights, tmp_path, Settings(TILE, "fp16"))
    reports = FlashVSR(folder).report, FlashVSR(tmp_path, scale=2).report
    assert reports[0].endswith(" CPU, 4x, exact attention in fp32, experimental")
    assert reports[1].endswith(" CPU, 2x, exact attention in fp16, experimental")


def test_random_weights_are_refused_outside_tests(folder, monkeypatch):
    monkeypatch.delenv("UPRES_RANDOM_WEIGHTS")
    with pytest.raises(ModelError, match="never trained"):
        FlashVSR(folder)


def test_what_is_not_there_is_named_with_the_command_that_gets_it(tmp_path):
    with pytest.raises(ModelError, match="upres export FlashVSR_Tiny --weights DIR"):
        FlashVSR(tmp_path)


def test_a_damaged_export_is_refused_with_all_that_is_wrong(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "next-128x128.onnx").unlink()
    (tmp_path / "copy" / "decoder.onnx").write_bytes(b"")
    (tmp_path / "copy" / "flashvsr-fp32.weights").write_bytes(b"short")
    with pytest.raises(ModelError) as error:
        FlashVSR(tmp_path / "copy")
    for text in (
        "next-128x128.onnx is missing",
        "decoder.onnx is not the one",
        "has 5 bytes, expected",
        "export it again",
    ):
        assert text in str(error.value)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="a GPU is here")
def test_a_device_that_is_not_here_is_named(folder):
    with pytest.raises(ModelError, match=r"no CUDAExecutionProvider, only .*CPUExecutionProvider"):
        FlashVSR(folder, options=Options(device="cuda"))


def test_noise_depends_on_its_place_only():
    field = draw_noise(3, 5, 8, 12)
    assert (draw_noise(3, 5, 4, 7) == field[:, :4, :7]).all()
    assert not (draw_noise(3, 6, 8, 12) == field).any()
    many = np.stack([draw_noise(0, latent, 16, 16) for latent in range(40)])
    assert abs(many.mean()) < 0.01
    assert abs(many.std() - 1) < 0.01


def test_rotations_only_differ_by_the_distance_however_far():
    def turned(position):
        cos, sin = rotation(position, (2, 8, 8), 32)
        return cos[64] + 1j * sin[64], cos[0] + 1j * sin[0]

    near, far = (b * a.conj() for b, a in (turned(0), turned(1_000_000)))
    assert np.abs(near - far).max() < 1e-6


@pytest.mark.soak
def test_five_thousand_frames_in_one_shot(folder):
    session = FlashVSR(folder, scale=2).open(64, 64)
    still = clip(1, 64, 64)[0].pixels
    count, last = 0, None
    for t in range(5000):
        for last in session.push(Frame(still, t, 1)):
            assert last.pts == count
            count += 1
    count += len(list(session.flush()))
    assert count == 5000
    assert last is not None
    assert np.ptp(last.pixels) > 0


@pytest.fixture
def on_gpu(folder, monkeypatch):
    """Return a function that loads the model as on a GPU with this many bytes free, but computes on the CPU."""
    monkeypatch.setattr(FlashVSR, "_load", lambda self, name: GraphAtOnce(self._folder / name, 2))

    def load(free, **options):
        monkeypatch.setattr(device_memory, "free", lambda: free)
        return FlashVSR(folder, options=Options(device="cuda", **options))

    return load


def test_on_a_gpu_its_memory_holds_what_the_main_memory_holds_on_a_cpu(folder, on_gpu):
    """State and weights count as GPU memory; only frames in transit count as main memory."""
    here, there = FlashVSR(folder), on_gpu(1 << 40)
    here._depth = there._depth
    for live in (False, True):
        layout = here.layout(70, 50)
        joined = 4 * 4 * 3 * layout.height * layout.width
        both = there.gpu_memory(70, 50, live=live) + there.memory(70, 50, live=live)
        assert both == here.memory(70, 50, live=live) + joined
        assert (36 + 21 * live) * 3 * layout.height * layout.width < there.memory(70, 50, live=live)
    held = there.open(70, 50)._networks
    assert there.gpu_memory(70, 50) > sum(part.nbytes for part in (*held.transformers, held.decoder))
    assert (here.gpu_free, here.gpu_memory(70, 50)) == (None, 0)


@pytest.mark.parametrize("count", [2, 6])
def test_the_tokens_of_a_tile_are_cut_from_those_of_the_frame(folder, count):
    graph = GraphAtOnce(folder / "decoder.onnx", 1)
    tokens, resident = np.random.default_rng(0).standard_normal((count, 1, 5 * 7, 3), np.float32), Resident(graph)
    cut = TokenCut(load_token_cuts(graph), 7 * 16)
    part = cut([resident.put(each) for each in tokens], Tile(16, 32, 48, 64))
    expected = tokens.reshape(count, 5, 7, 3)[:, 1:4, 2:6].reshape(1, -1, 3)
    found = part.memory.array.view(np.float32)[: expected.size].reshape(part.spec.shape)
    np.testing.assert_array_equal(found, expected)


def test_a_gpu_that_holds_all_tiles_spools_nothing(on_gpu, tmp_path):
    needed = on_gpu(1 << 40).gpu_memory(70, 50)
    for free, spooled in ((needed, False), (needed - 1, True)):
        model = on_gpu(free, spool=tmp_path)
        assert (model.spooled(70, 50, 44) > 0) == spooled
        session = model.open(70, 50)
        assert (session._spool is not None, len(session._networks.transformers) == 1) == (spooled, spooled)
        assert model.gpu_memory(70, 50) <= free
        session.close()


def test_what_the_gpus_memory_cannot_hold_is_refused_before_it_starts_whatever_the_host_has(on_gpu):
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
