"""Numbered images as one video: which files belong to it, its frame rate, and that missing images are reported."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import referee
from fake import Nearest, job, upscaled
from PIL import Image

from upres.engine.api import upscale
from upres.engine.core.errors import Interrupted, LogError, SourceError
from upres.engine.decode.numbered import ImageSequence, pattern_of
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder

LOSSLESS = Encoder("lossless")


def numbered(folder, names, size=(48, 32)):
    """Write an image of a different gray for each name."""
    folder.mkdir(exist_ok=True)
    for count, name in enumerate(names):
        Image.new("RGB", size, (20 * count,) * 3).save(folder / name)


def grays(path):
    return [round(frame.mean() / 20) for frame in referee.pictures(path)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("frame_%05d.png", [f"frame_{number:05d}.png" for number in range(1, 6)]),
        ("frame_%d.png", [f"frame_{number}.png" for number in range(97, 103)]),
        ("%04d.jpg", [f"{number:04d}.jpg" for number in range(9998, 10002)]),
        ("a 100 [x] %03d.webp", [f"a 100 [x] {number:03d}.webp" for number in range(0, 3)]),
        ("%d.tiff", ["1000001.tiff", "1000002.tiff"]),
    ],
)
def test_every_image_is_a_frame_in_the_order_of_its_number(tmp_path, pattern, names):
    folder = tmp_path / "50% of it"
    numbered(folder, names)
    (folder / "other.png").write_bytes(b"not looked at")
    upscaled(str(folder / pattern), tmp_path / "out.mkv", encoder=LOSSLESS)
    assert grays(tmp_path / "out.mkv") == list(range(len(names)))


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001), Fraction(1, 2)])
def test_each_is_shown_as_long_as_the_rate_says(tmp_path, rate):
    numbered(tmp_path / "in", ["1.png", "2.png", "3.png"])
    source = ImageSequence(str(tmp_path / "in" / "%d.png"), rate)
    upscaled(source, tmp_path / "out.mp4")
    video = referee.video(tmp_path / "out.mp4")
    assert [time - video.times[0] for time in video.times] == [number / rate for number in range(3)]
    with Reader(source) as reader:
        assert reader.info.shape.rate == rate and reader.info.seconds == pytest.approx(3 / float(rate), abs=0.01)


def test_without_a_rate_there_are_25_a_second(tmp_path):
    numbered(tmp_path / "in", ["1.png"])
    with Reader(str(tmp_path / "in" / "%d.png")) as reader:
        assert reader.info.shape.rate == 25


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no such file, and no numbered images of that name, such as 001.png"),
        (["1.png", "2.png"], r"no numbered images .*; found .*in/%d\.png$"),
        (["00001.png", "00002.png"], r"no numbered images .*; found .*in/%05d\.png$"),
        (["a.png", "b.jpg"], r"such as 001\.png$"),
        (["001.png", "002.png", "005.png", "007.png"], r"003\.png is missing, and 3 in all"),
    ],
)
def test_what_is_missing_is_said(tmp_path, names, words):
    numbered(tmp_path / "in", names)
    with pytest.raises(SourceError, match=words):
        upscaled(str(tmp_path / "in" / "%03d.png"), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SourceError, match=rf"there is no folder {tmp_path / 'in'}$"):
        ImageSequence(str(tmp_path / "in" / "%d.png")).span()


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("in/frame_00012.png", "in/frame_%05d.png"), ("7.jpg", "%d.jpg"), ("take2 0.png", "take2 %d.png"),
     ("a1b23c.tif", "a1b%dc.tif"), ("photo.png", None), ("50%1.png", None)],
)  # fmt: skip
def test_the_pattern_of_a_numbered_file_is_found(name, pattern):
    assert pattern_of(name) == pattern


def test_a_file_whose_own_name_looks_like_a_pattern_is_that_file(tmp_path):
    numbered(tmp_path, ["%d.png", "1.png", "2.png"])
    assert upscaled(str(tmp_path / "%d.png"), tmp_path / "out.mp4").frames_out == 1


def test_an_interrupted_run_is_resumed_and_with_other_images_refused(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (32, 48, 3), np.uint8)).save(tmp_path / "in" / f"{number}.png")
    source = ImageSequence(str(tmp_path / "in" / "%d.png"), Fraction(10))
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    settings = {"encoder": Encoder(segment_seconds=0.1)}
    upscaled(source, whole, **settings)
    ticks = iter(range(100))

    def stop():
        if next(ticks) == 4:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted) as stopped:
        upscale(source, target, job(target, Nearest(), **settings), tick=stop)
    assert "continues from there" in stopped.value.__notes__[0]
    with pytest.raises(LogError, match="other settings"):
        upscale(replace(source, rate=Fraction(24)), target, job(target, Nearest(), **settings), resume=True)
    done = upscale(source, target, job(target, Nearest(), **settings), resume=True)
    assert done.frames_resumed > 0 and target.read_bytes() == whole.read_bytes()
