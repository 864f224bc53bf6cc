"""Every pre-filter does what its name says, and loses no frame."""

from fractions import Fraction

import media
import numpy as np
import pytest
import referee
from fake import Nearest, upscaled

from upres.engine.core.errors import SettingsError
from upres.engine.decode.filters import PREFILTERS
from upres.engine.encode.options import Encoder

pytestmark = pytest.mark.referee


def through(clip, tmp_path, *names, **settings):
    """Return the luma of a clip after a pre-filter, as floats."""
    out = tmp_path / f"{'-'.join(names) or 'none'}.mkv"
    upscaled(clip, out, Nearest(1), prefilters=names, encoder=Encoder("lossless"), **settings)
    return referee.pictures(out)[..., 1].astype(float)


def lossless_clip(path, picture, *args):
    return media.clip(path, "-c:v", "ffv1", "-pix_fmt", "yuv420p", *args, picture=picture)


@pytest.mark.parametrize("name", PREFILTERS)
@pytest.mark.parametrize("rate", ["25", "30000/1001"])
def test_count_and_times_stay(tmp_path, name, rate):
    clip = lossless_clip(tmp_path / "in.mkv", f"testsrc2=size=64x48:rate={rate}:duration=1")
    upscaled(clip, tmp_path / "out.mp4", prefilters=(name,))
    was, now = referee.video(clip).times, referee.video(tmp_path / "out.mp4").times
    if PREFILTERS[name].rate == 1:
        assert now == was
        return
    assert now[::2] == was
    halves = [(a + b) / 2 for a, b in zip(was, [*was[1:], was[-1] + 1 / Fraction(rate)], strict=True)]
    assert all(abs(time - half) <= Fraction(1, 900) for time, half in zip(now[1::2], halves, strict=True))


def test_a_time_base_of_one_tick_a_frame_holds_two_fields(tmp_path):
    clip = media.clip(tmp_path / "in.avi", "-c:v", "mpeg4", picture="testsrc2=size=64x48:rate=25:duration=1")
    upscaled(clip, tmp_path / "out.mp4", prefilters=("deinterlace-fields",))
    assert referee.video(tmp_path / "out.mp4").times == [Fraction(n, 50) for n in range(50)]


def combing(frames):
    """Return by how much more lines differ from their neighbors in the other field than from those in their own."""
    return np.abs(frames[:, 1:-1] - (frames[:, :-2] + frames[:, 2:]) / 2).mean()


def test_deinterlace_removes_combs(tmp_path):
    moving = (
        "color=black:size=96x64:rate=50:duration=1,drawbox=x=0:w=20:h=64:color=white:t=fill,scroll=h=0.05,tinterlace=4"
    )
    clip = lossless_clip(tmp_path / "in.mkv", moving)
    before = combing(through(clip, tmp_path)[2:-2])
    assert combing(through(clip, tmp_path, "deinterlace")[2:-2]) < before / 4


@pytest.mark.parametrize("name", ["denoise", "denoise-strong"])
def test_denoise_halves_noise(tmp_path, name):
    clip = lossless_clip(tmp_path / "in.mkv", "color=gray:size=96x64:rate=10:duration=2,noise=alls=8:allf=t")
    noise = through(clip, tmp_path)[5:-5].std()
    assert through(clip, tmp_path, name)[5:-5].std() < noise / 2


def test_deblock_lowers_blocks_more_than_what_lies_between(tmp_path):
    clip = media.clip(tmp_path / "in.avi", "-c:v", "mpeg4", "-q:v", 31, picture=media.SMOOTH.replace("64x48", "128x96"))

    def steps(frames):
        across = np.abs(np.diff(frames, axis=2))
        return across[:, :, 7::8].mean() / (across.mean() + 1e-6)

    assert steps(through(clip, tmp_path, "deblock")) < steps(through(clip, tmp_path)) * 0.9


def test_stabilise_takes_shake_out(tmp_path):
    still = "mandelbrot=size=240x200:rate=10,trim=end_frame=1,loop=loop=19:size=1:start=0,setpts=N/10/TB"
    clip = lossless_clip(tmp_path / "in.mkv", f"{still},crop=160:128:40+5*sin(n*2):36+5*cos(n*3)")

    def motion(frames):
        inner = frames[:, 32:-32, 32:-32]
        return np.abs(np.diff(inner, axis=0)).mean()

    assert motion(through(clip, tmp_path, "stabilise")) < motion(through(clip, tmp_path)) * 0.6


def test_filters_run_one_after_the_other(tmp_path):
    clip = lossless_clip(tmp_path / "in.mkv", "testsrc2=size=64x48:rate=10:duration=1")
    assert len(through(clip, tmp_path, "deinterlace", "denoise", "deblock")) == 10


def test_an_unknown_filter_is_named(tmp_path):
    clip = lossless_clip(tmp_path / "in.mkv", "testsrc2=size=64x48:rate=10:duration=1")
    with pytest.raises(SettingsError, match=r"sharpen, blur; there are: deinterlace"):
        through(clip, tmp_path, "sharpen", "blur")


def test_split_begins_segments_at_shots_and_flushes_before(tmp_path):
    kinds = ("color=navy:", 0.7), ("testsrc=", 0.9), ("color=white:", 0.4)
    shots = [f"{kind}size=64x48:rate=10:duration={length}[{n}]" for n, (kind, length) in enumerate(kinds)]
    clip = lossless_clip(tmp_path / "in.mkv", ";".join([*shots, "[0][1][2]concat=n=3"]))
    model = Nearest(lookahead=2)
    upscaled(clip, tmp_path / "out.mp4", model, split=True)
    packets = referee.stored(tmp_path / "out.mp4")
    assert [n for n, packet in enumerate(packets) if packet.key] == [0, 7, 16]
    assert [session.flushed for session in model.opened] == [[7, 9, 4]]
    assert all(session.closed for session in model.opened)
    assert referee.video(tmp_path / "out.mp4").times == referee.video(clip).times
