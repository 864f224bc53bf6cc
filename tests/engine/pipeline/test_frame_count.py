"""Predicted frame counts if a source declares another frame rate than it has."""

from fractions import Fraction
from pathlib import Path

import media
import pytest
from fake import job

from upres.engine.decode.cut import WHOLE, Cut
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.frame_count import count_frames

SLOW = (
    "testsrc2=size=64x48:rate=1000:duration=12,select='not(mod(n\\,40))'"  # 25 frames a second, stamped in milliseconds
)
NTSC = "testsrc2=size=720x480:rate=30000/1001:duration={}"


def counted(path: Path, cut: Cut = WHOLE, **settings: object) -> int | None:
    with Reader(path, cut=cut) as reader:
        return count_frames(reader, job(Path("out.mp4"), cut=cut, **settings))


@pytest.mark.parametrize("name", ["a.avi", "a.flv", "a.mp4", "a.mkv"])
def test_a_screen_recording_of_a_thousand_ticks_a_second(clips, name):
    codec = {"a.flv": "flv1", "a.avi": "mpeg4"}.get(name, "libx264")
    path = media.clip(clips / f"screen-{name}", "-fps_mode", "vfr", "-c:v", codec, picture=SLOW)
    assert counted(path) == pytest.approx(300, abs=2)
    assert counted(path, Cut(Fraction(2), Fraction(4))) == pytest.approx(100, abs=2)


@pytest.mark.parametrize(("seconds", "frames"), [("0.03", 1), ("9", 270)])
def test_digital_video_that_declares_sixty_thousand_frames_a_second(clips, seconds, frames):
    path = media.clip(clips / f"ntsc{frames}.dv", "-target", "ntsc-dv", picture=NTSC.format(seconds))
    assert counted(path) == pytest.approx(frames, abs=1)
    assert counted(path, Cut(Fraction(0), Fraction(1))) == min(frames, 30)


def test_a_pre_filter_that_doubles_the_rate_doubles_the_frames(clips):
    path = media.clip(clips / "plain.mp4", "-c:v", "libx264")
    assert (counted(path), counted(path, prefilters=("deinterlace-fields",))) == (10, 20)


def test_what_does_not_say_its_length_has_no_count(clips):
    path = media.clip(clips / "raw.h264", "-c:v", "libx264")
    assert counted(path) is None
