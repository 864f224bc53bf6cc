"""FlashVSR's session: exact frame counts and times, shots, tiles and sizes."""

import importlib
import os

import numpy as np
import paths
import pytest
import referee
from flashvsr_clips import clip, stack, upscale

from upres.engine.core.errors import Interrupted, ModelError, SourceError
from upres.engine.core.frame import Frame
from upres.engine.models.flashvsr.model import FlashVSR, Options
from upres.engine.models.flashvsr.networks import Decoder, Transformer
from upres.engine.runtime.ort_at_once import GraphAtOnce

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")

from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402 - after the check for torch
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402
from upres.export.flashvsr.verify.golden import read_golden  # noqa: E402

DATA = paths.DATA / "flashvsr"


@pytest.mark.parametrize("count", [1, 2, 21, 24, 25, 26, 29, 30, 100])
def test_as_many_frames_come_out_with_their_times(folder, count):
    frames = clip(count)
    out = upscale(FlashVSR(folder), frames)
    assert [(frame.pts, frame.duration) for frame in out] == [(frame.pts, frame.duration) for frame in frames]
    assert {frame.pixels.shape for frame in out} == {(128, 128, 3)}


@pytest.mark.parametrize(("count", "decoded"), [(1, 1), (2, 2), (21, 6), (22, 7), (30, 9)])
@pytest.mark.parametrize("width", [32, 70])
def test_only_what_is_shown_is_decoded(folder, tmp_path, monkeypatch, count, decoded, width):
    submit, submitted = Decoder.submit, []
    monkeypatch.setattr(
        Decoder, "submit", lambda self, *arguments: submitted.append(arguments) or submit(self, *arguments)
    )
    upscale(FlashVSR(folder, options=Options(spool=tmp_path)), clip(count, width))
    assert len(submitted) == decoded


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


def test_state_is_reset_at_every_shot(folder):
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


@pytest.mark.parametrize("received", [0, 1, 3])
def test_a_session_closed_before_its_results_are_read_leaves_nothing(folder, received):
    model, before = FlashVSR(folder), referee.resources()
    session = model.open(32, 32)
    *earlier, last = clip(25)
    assert [picture for frame in earlier for picture in session.push(frame)] == []
    pictures = session.push(last)
    for _ in range(received):
        next(pictures)
    session.close()
    assert referee.resources() <= before


@pytest.mark.parametrize("width", [32, 70])
def test_a_live_session_that_is_stopped_ends_with_the_step_of_a_tile(folder, monkeypatch, width):
    session = FlashVSR(folder).open(width, 32)
    push, pushed = Transformer.push, []

    def stopped(self, *arguments):
        pushed.append(arguments)
        session.stop()
        return push(self, *arguments)

    monkeypatch.setattr(Transformer, "push", stopped)
    for frame in clip(24, width, 32):
        list(session.push(frame))
    with pytest.raises(Interrupted):
        list(session.flush())
    assert len(pushed) == 1
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


def test_frames_of_another_size_are_refused(folder):
    with pytest.raises(SourceError, match="32x30 was passed to a session for frames of 32x32"):
        list(FlashVSR(folder).open(32, 32).push(clip(1, 32, 30)[0]))


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
