"""Measured interlacing, compared with FFmpeg's idet on the same clips."""

import re
import subprocess

import imageio_ffmpeg
import media
import pytest
from paths import CASES
from PIL import Image, ImageDraw, ImageFont

from upres.engine.decode.reader import Reader
from upres.engine.pipeline.advice import INTERLACED, measure

WEAVE = "tinterlace=interleave_top,setfield=tff"
PROGRESSIVE = [
    *(f"scroll{step}" for step in ("0.5", "1", "1.5", "2", "3", "4")),
    *("anime.mkv", "t_gap0.mkv", "iphone.mov", "opus-no-channels.mkv", "vres.webm"),
]
FOOLED = ("scroll2", "anime.mkv", "t_gap0.mkv", "iphone.mov", "opus-no-channels.mkv")
"""Speeds at which idet wrongly reports interlacing."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return a page of text, twice as high as the picture."""
    page = Image.new("L", (320, 720), 0)
    words = "the quick brown fox jumps over the lazy dog and credits name who made sound camera light"
    for line in range(33):
        shifted = " ".join(words.split()[line % 9 : line % 9 + 5])
        ImageDraw.Draw(page).text(
            (10 + 7 * line % 40, 20 * line + 10), shifted, fill=235, font=ImageFont.load_default(14)
        )
    path = tmp_path_factory.mktemp("page") / "page.png"
    page.save(path)
    return path


def scrolled(page, out, step, rate=25, then="null"):
    """Yield the page scrolling by this many pixels per frame; fractions are resampled."""
    move = f"scale=640:1440,crop=640:720:0:'n*{2 * step:g}',scale=320:360:flags=bicubic,{then}"
    media.ffmpeg("-loop", 1, "-r", rate, "-i", page, "-vf", f"{move},format=yuv420p", "-frames:v", 40, out)
    return out


def measured(path):
    with Reader(path) as reader:
        return measure(reader).interlaced


def idet(path):
    """Return the share of frames that FFmpeg's idet reports as interlaced."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-vf", "idet", "-frames:v", "72", "-f", "null", "-"]
    log = subprocess.run(command, capture_output=True, text=True, timeout=60).stderr
    counts = list(
        map(int, re.findall(r"Multi frame.*TFF: *(\d+) *BFF: *(\d+) *Prog\w*: *(\d+) *Und\w*: *(\d+)", log)[-1])
    )
    return sum(counts[:2]) / sum(counts)


@pytest.mark.parametrize("name", PROGRESSIVE)
def test_progressive_frames_are_not_recognized_as_interlaced(name, page, tmp_path):
    path = CASES / name
    if name.startswith("scroll"):
        path = scrolled(page, tmp_path / "in.mkv", float(name.removeprefix("scroll")))
    assert measured(path) < INTERLACED
    assert idet(path) > INTERLACED or name not in FOOLED


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_scroll_that_is_interlaced_is_called_so_as_idet_does(page, tmp_path, step):
    path = scrolled(page, tmp_path / "in.mkv", step, rate=50, then=WEAVE)
    assert measured(path) > INTERLACED and idet(path) > INTERLACED


@pytest.mark.parametrize(
    ("picture", "filters"),
    [
        ("testsrc2=size=320x180:rate=50:duration=1.5", WEAVE),
        ("mandelbrot=size=320x180:rate=50", "tinterlace=interleave_bottom,setfield=bff"),
        ("mandelbrot=size=320x180:rate=24", "telecine=first_field=top"),
    ],
)
def test_interlaced_frames_are_recognized_as_idet_does(tmp_path, picture, filters):
    clip = media.clip(tmp_path / "in.mkv", "-vf", filters, "-c:v", "libx264", "-frames:v", 40, picture=picture)
    assert measured(clip) > INTERLACED and idet(clip) > INTERLACED
