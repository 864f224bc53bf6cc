"""Frames are those that ffmpeg decodes: upright, in order, in the same colors, and none is missing."""

import io
import os
from fractions import Fraction
from importlib.metadata import entry_points

import av
import media
import numpy as np
import pytest
import referee
from fake import Pipe, upscaled
from PIL import ExifTags, Image

from upres.engine.color.convert import ToRGB
from upres.engine.core.errors import SourceError
from upres.engine.decode.reader import Reader
from upres.engine.decode.source import GROUP, opener_for, openers

pytestmark = pytest.mark.referee

H264 = ("-c:v", "libx264")


def read(source, **settings):
    """Return the times in seconds and the pixels of all frames."""
    with Reader(source, **settings) as reader:
        to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
        frames = [(frame.pts * reader.info.shape.time_base, to_rgb(frame).copy()) for frame in reader.frames()]
        return [time for time, _ in frames], np.stack([pixels for _, pixels in frames]), reader


def test_uneven_times_with_b_frames_come_in_the_order_they_are_shown(tmp_path):
    ticks = [0, 7, 21, 22, 40, 61, 62, 63, 90, 111]
    clip = media.timed(tmp_path / "in.mp4", ticks, Fraction(1, 30), *H264, "-bf", 3)
    times, _, _ = read(clip)
    assert times == [Fraction(tick, 30) for tick in ticks]


def test_frames_that_an_edit_list_hides_are_not_read(tmp_path):
    whole = media.clip(tmp_path / "whole.mp4", *H264, "-g", 10, "-bf", 2, picture=media.SMOOTH, sound=media.SOUND)
    media.ffmpeg("-ss", "0.35", "-i", whole, "-c", "copy", tmp_path / "cut.mp4")
    shown = referee.video(tmp_path / "cut.mp4")
    packet_count = referee.count(tmp_path / "cut.mp4")
    times, pixels, _ = read(tmp_path / "cut.mp4")
    assert len(times) == len(shown.times) < packet_count
    assert np.abs(pixels.astype(int) - referee.pictures(tmp_path / "cut.mp4")).mean() < 2
    upscaled(tmp_path / "cut.mp4", tmp_path / "out.mp4")
    was, now = referee.audio(tmp_path / "cut.mp4"), referee.audio(tmp_path / "out.mp4")
    apart = shown.times[0] - was.times[0]
    assert abs(referee.video(tmp_path / "out.mp4").times[0] - now.times[0] - apart) <= Fraction(1, 40000)


@pytest.mark.parametrize("target", [".mp4", ".mkv"])
@pytest.mark.parametrize("suffix", [".flv", ".mp4", ".avi", ".mkv"])
def test_tags_that_are_no_utf_8_cost_no_frame(tmp_path, suffix, target):
    tags = ("-metadata", "title=QQtitle", "-metadata", "QQkey=QQvalue", "-movflags", "use_metadata_tags")
    codec = "flv1" if suffix == ".flv" else "mpeg4"
    clip = media.clip(tmp_path / f"in{suffix}", "-c:v", codec, "-metadata:s:v", "handler_name=QQname", *tags)
    assert b"QQ" in clip.read_bytes()
    clip.write_bytes(clip.read_bytes().replace(b"QQ", b"\xe9\xff"))
    out = tmp_path / f"out{target}"
    assert upscaled(clip, out).frames_out == referee.count(out) == referee.count(clip)
    with av.open(str(out), metadata_errors="replace") as container:
        assert container.metadata["title"].endswith("title")


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotated_video_is_turned_upright(tmp_path, angle):
    flat = media.clip(tmp_path / "flat.mp4", *H264, picture=media.SMOOTH)
    media.rotated(tmp_path / "in.mp4", flat, angle)
    upright = referee.pictures(tmp_path / "in.mp4")
    _, pixels, _ = read(tmp_path / "in.mp4")
    assert pixels.shape == upright.shape
    assert pixels.shape[1:3] == ((64, 48) if angle != 180 else (48, 64))
    assert np.abs(pixels.astype(int) - upright).max() <= 2
    upscaled(tmp_path / "in.mp4", tmp_path / "out.mp4")
    result = referee.pictures(tmp_path / "out.mp4")
    assert "rotation" not in referee.streams(tmp_path / "out.mp4", "video")[0]
    assert np.abs(result.astype(int) - upright.repeat(2, 1).repeat(2, 2)).mean() < 3


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_an_image_with_exif_is_turned_upright(tmp_path, suffix, orientation, turns):
    flat = np.add.outer(np.arange(32), np.arange(48))[..., None].repeat(3, 2).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = orientation, "Acme"
    Image.fromarray(flat).save(tmp_path / f"in{suffix}", exif=exif)
    _, pixels, _ = read(tmp_path / f"in{suffix}")
    assert np.abs(pixels[0].astype(int) - np.rot90(flat, turns)).max() <= 4


@pytest.mark.parametrize("flip", ["hflip", "vflip"])
def test_a_mirrored_picture_is_mirrored_back(tmp_path, flip):
    flat = media.clip(tmp_path / "flat.mp4", *H264, picture=media.SMOOTH)
    media.matrix(tmp_path / "in.mp4", flat, (-1, 0, 0, 1) if flip == "hflip" else (1, 0, 0, -1))
    _, pixels, _ = read(tmp_path / "in.mp4")
    assert np.abs(pixels.astype(int) - referee.pictures(tmp_path / "in.mp4")).max() <= 2


@pytest.mark.parametrize(("aspect", "turned"), [("4/3", False), ("4/3", True)])
def test_sample_aspect_is_carried_and_turned_with_the_picture(tmp_path, aspect, turned):
    flat = media.clip(tmp_path / "flat.mp4", *H264, "-vf", f"setsar={aspect}")
    media.rotated(tmp_path / "in.mp4", flat, 90 if turned else 0)
    for suffix in (".mp4", ".mkv"):
        upscaled(tmp_path / "in.mp4", tmp_path / f"out{suffix}")
        aspect_ratio = referee.streams(tmp_path / f"out{suffix}", "video")[0]["sample_aspect_ratio"]
        assert aspect_ratio == ("3:4" if turned else "4:3")


@pytest.mark.parametrize("size", ["33x17", "34x17", "1x1", "2x2", "63x48"])
def test_every_size_doubles(tmp_path, size):
    width, height = map(int, size.split("x"))
    odd = f"testsrc2=duration=1:rate=3,format=yuv444p,scale={width}:{height}"
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "ffv1", picture=odd)
    upscaled(clip, tmp_path / "out.mp4")
    video = referee.streams(tmp_path / "out.mp4", "video")[0]
    assert (video["width"], video["height"]) == (2 * width, 2 * height)


FORMATS = [
    "yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "gray", "gray10le", "yuv411p",
    "yuv410p", "yuva420p", "gbrp", "gbrp10le", "rgb24", "nv12",
]  # fmt: skip


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_every_pixel_format_gives_the_colours_ffmpeg_shows(tmp_path, pixel_format):
    codec = "rawvideo" if pixel_format in ("rgb24", "nv12", "yuvj420p") else "ffv1"
    clip = media.clip(tmp_path / "in.nut", "-c:v", codec, "-pix_fmt", pixel_format, picture=media.SMOOTH)
    _, pixels, reader = read(clip)
    over_black = ("format=gbrap", "premultiply=inplace=1") if "yuva" in pixel_format else ()
    assert np.abs(pixels.astype(int) - referee.pictures(clip, *over_black)).max() <= 3
    assert bool(reader.warnings) == (reader.info.bits > 8)


def test_interlaced_video_keeps_its_frames_and_says_so(tmp_path):
    clip = media.clip(
        tmp_path / "in.mpg", "-r", 25, "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-vf", "tinterlace=4,setfield=tff"
    )
    times, _, reader = read(clip)
    assert reader.info.interlaced
    assert len(times) == len(referee.video(clip).times)


def test_codecs_have_their_usual_names(tmp_path):
    clip = media.clip(tmp_path / "in.avi", "-c:v", "mpeg4", "-c:a", "libmp3lame", sound=media.SOUND)
    with Reader(clip) as reader:
        assert (reader.info.codec, reader.info.audio) == ("mpeg4", ("mp3",))
    song = media.clip(tmp_path / "song.mp3", picture=None, sound=media.SOUND)
    with pytest.raises(SourceError, match=r"no video track .found: audio mp3\)"):
        Reader(song)


def test_cover_art_is_not_the_video(tmp_path):
    cover = media.clip(tmp_path / "cover.png", "-frames:v", 1, picture="color=red:size=600x600")
    clip = media.clip(tmp_path / "in.mp4", *H264, sound=media.SOUND)
    media.ffmpeg(
        "-i", cover, "-i", clip, "-map", 0, "-map", 1, "-c", "copy", "-disposition:v:0", "attached_pic", tmp_path / "art.mp4"
    )  # fmt: skip
    upscaled(tmp_path / "art.mp4", tmp_path / "out.mp4")
    assert referee.streams(tmp_path / "out.mp4", "video")[0]["width"] == 128
    assert len(referee.video(tmp_path / "out.mp4").times) == 10
    song = tmp_path / "song.m4a"
    media.ffmpeg(
        "-i", cover, "-i", clip, "-map", "0:v", "-map", "1:a", "-c", "copy", "-disposition:v:0", "attached_pic", song
    )
    with pytest.raises(SourceError, match="no video track"):
        Reader(song)


def test_openers_are_looked_up_once_however_many_sources_are_opened(monkeypatch):
    lookups = []
    monkeypatch.setattr(
        "upres.engine.decode.source.entry_points", lambda group: lookups.append(group) or entry_points(group=group)
    )
    openers.cache_clear()
    kinds = [opener_for(io.BytesIO()), opener_for(Pipe(b"")), opener_for("a.mp4")]
    assert len({type(kind) for kind in kinds}) == 3 and lookups == [GROUP]


@pytest.mark.skipif(os.cpu_count() == 1, reason="libavcodec uses one thread for everything here")
@pytest.mark.parametrize(("size", "single"), [("640x480", True), ("656x480", False)])
def test_frames_that_one_thread_decodes_fast_enough_get_one(tmp_path, size, single):
    clip = media.clip(tmp_path / "in.mp4", *H264, picture=f"testsrc2=size={size}:rate=10:duration=0.2")
    with Reader(clip) as reader:
        assert (reader.video.codec_context.thread_count == 1) is single
