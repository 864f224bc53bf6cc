"""Frames are decoded in presentation order, with their times, all of one size, and with transparent parts over black."""

from fractions import Fraction
from itertools import pairwise

import media
import numpy as np
import pytest
import referee
from fake import upscaled
from paths import CASES

from upres.engine.color.convert import ToRGB
from upres.engine.decode.reader import Reader


@pytest.mark.parametrize("name", ["noctts_bframes.mp4", "lost.mp4", "lost.mov", "lost.mkv"])
def test_frames_whose_composition_times_were_lost_are_evenly_apart(tmp_path, name):
    source = CASES / name
    if name.startswith("lost"):
        source = tmp_path / name
        media.clip(
            source, "-c:v", "libx264", "-bf", 3, "-bsf:v", "setts=pts=DTS", picture="testsrc2=rate=25:duration=2"
        )
    upscaled(source, tmp_path / "out.mp4")
    times = referee.video(tmp_path / "out.mp4").times
    assert len(times) == (50 if name == "lost.mkv" else len(referee.video(source).times))
    assert {round(float(b - a), 3) for a, b in pairwise(times)} == {0.04}


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
@pytest.mark.parametrize("group", [12, 3])
def test_pictures_of_mpeg2_stamped_as_they_are_decoded_are_evenly_apart(tmp_path, suffix, group):
    """libavformat generates decoding times that fall at every second frame, which are not clock jumps."""
    picture, sound = "testsrc2=size=64x48:rate=25:duration=2", "sine=duration=2"
    lost = ("-c:v", "mpeg2video", "-bf", 2, "-g", group, "-bsf:v", "setts=pts=DTS", "-c:a", "mp2")
    source = media.clip(tmp_path / f"in{suffix}", *lost, picture=picture, sound=sound)
    progress = upscaled(source, tmp_path / "out.mp4")
    times = referee.video(tmp_path / "out.mp4").times
    assert len(times) == 50 and {round(float(b - a), 3) for a, b in pairwise(times)} == {0.04}
    assert abs(referee.audio(tmp_path / "out.mp4").end - referee.video(tmp_path / "out.mp4").end) < 0.1
    assert not progress.repairs.backward and not progress.repairs.forward


@pytest.mark.parametrize("name", ["vres.webm", "both.ts"])
def test_frames_of_another_size_are_scaled_to_the_first(tmp_path, name):
    source = CASES / name
    if name == "both.ts":
        source = tmp_path / name
        for part, size in (("a", "96x64"), ("b", "64x48")):
            picture = f"testsrc2=size={size}:rate=10:duration=1"
            media.clip(tmp_path / f"{part}.ts", "-c:v", "libx264", "-muxdelay", 0, picture=picture)
        source.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    progress = upscaled(source, tmp_path / "out.mp4")
    first = referee.size(source)
    assert referee.size(tmp_path / "out.mp4") == (2 * first[0], 2 * first[1])
    assert f"frames change from {first[0]}x{first[1]} to " in progress.warnings[-1]
    assert sorted(path.name for path in tmp_path.iterdir() if ".upres" in path.name) == []
    shown = referee.pictures(source, f"scale={first[0]}:{first[1]}:flags=bicubic").astype(int)
    result = referee.pictures(tmp_path / "out.mp4")[:, ::2, ::2]
    assert len(result) == len(shown)
    assert np.abs(result - shown).mean() < 12


TRANSPARENT = "testsrc2=size=64x48:rate=10:duration=1,format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='{alpha}'"
MADE = {
    "half.mov": ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"),
    "half.webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-auto-alt-ref", 0, "-lossless", 1),
    "half.gif": (),
    "half.mkv": ("-c:v", "ffv1", "-pix_fmt", "bgra"),
}


@pytest.mark.parametrize("name", ["prores4444_alpha.mov", *MADE])
def test_transparent_parts_lie_over_black_with_a_note(tmp_path, name):
    source = CASES / name
    if name in MADE:
        alpha = "if(lt(X,32),0,255)" if name == "half.gif" else "X*4"
        palette = ",split[a][b];[a]palettegen[p];[b][p]paletteuse" if name == "half.gif" else ""
        source = media.clip(tmp_path / name, *MADE[name], picture=TRANSPARENT.format(alpha=alpha) + palette)
    progress = upscaled(source, tmp_path / "out.mp4")
    assert "transparent parts, if any, are shown over black: the result has no transparency" in progress.warnings
    decoder = ("-c:v", "libvpx-vp9") if source.suffix == ".webm" else ()
    chain = "format=gbrap,premultiply=inplace=1,format=rgb24"
    flags = ("-fps_mode", "passthrough", "-vf", chain, "-f", "rawvideo", "-")
    data = media.ffmpeg(*decoder, "-i", source, *flags)
    shown = np.frombuffer(data, np.uint8).reshape(-1, 48, 64, 3)
    with Reader(source) as reader:
        to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
        frames = np.stack([to_rgb(frame).copy() for frame in reader.frames()])
    assert np.abs(frames.astype(int) - shown).max() <= 4


def test_a_pixel_that_hides_nothing_is_left_as_it_is(tmp_path):
    opaque = media.clip(
        tmp_path / "in.mkv", "-c:v", "ffv1", "-pix_fmt", "bgra", picture=TRANSPARENT.format(alpha="255")
    )
    with Reader(opaque) as reader:
        to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
        frames = np.stack([to_rgb(frame).copy() for frame in reader.frames()])
    assert (frames == referee.pictures(opaque)).all()
    assert Fraction(len(frames), 10) == 1
