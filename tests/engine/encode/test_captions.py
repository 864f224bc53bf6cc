"""Closed captions in the video are the same in the result as in the source."""

from fractions import Fraction

import media
import pytest
import referee
from caption_clips import captioned, captions
from fake import Nearest, upscaled

from upres.engine.decode.cut import Cut
from upres.engine.encode.options import Encoder


@pytest.mark.parametrize("name", ["in.mp4", "in.ts"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_captions_in_the_picture_are_those_of_the_source(tmp_path, name, codec):
    clip = captioned(tmp_path / name)
    expected = captions(clip, tmp_path)
    assert "HELLO" in expected and "WORLD!" in expected
    progress = upscaled(
        clip, tmp_path / "out.mp4", Nearest(2, lookahead=3), encoder=Encoder(codec=codec, segment_seconds=0.5)
    )
    assert captions(tmp_path / "out.mp4", tmp_path) == expected
    assert progress.warnings == []


def test_captions_change_no_pixel(tmp_path):
    clip = captioned(tmp_path / "in.mp4")
    media.ffmpeg("-i", clip, "-c", "copy", "-bsf:v", "filter_units=remove_types=6", tmp_path / "plain.mp4")
    for name in ("in", "plain"):
        upscaled(tmp_path / f"{name}.mp4", tmp_path / f"{name}-out.mp4")
    assert (referee.pictures(tmp_path / "in-out.mp4") == referee.pictures(tmp_path / "plain-out.mp4")).all()


@pytest.mark.parametrize(("codec", "suffix"), [("vp9", ".webm"), ("av1", ".mp4"), ("prores", ".mov"), ("ffv1", ".mkv")])
def test_captions_that_a_codec_has_no_place_for_are_named(tmp_path, codec, suffix):
    clip = captioned(tmp_path / "in.mp4")
    short = Cut(duration=Fraction(1, 5))
    notes = upscaled(
        clip, tmp_path / f"out{suffix}", encoder=Encoder(codec=codec, preset="ultrafast"), cut=short
    ).warnings
    assert sum("closed captions is left out" in note and "h264 and hevc can" in note for note in notes) == 1
