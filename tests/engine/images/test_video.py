"""Videos as images: all frames with their times, verified with Pillow and ffmpeg."""

import io
from fractions import Fraction

import media
import numpy as np
import pytest
import referee
from fake import Nearest, repeated
from PIL import Image, ImageSequence

from upres.engine.api import upscale
from upres.engine.core.errors import Interrupted, LogError, SettingsError, TargetError
from upres.engine.decode.numbered import ImageSequence as Numbered
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.options import Job

EXACT = Encoder("lossless")


@pytest.fixture
def clip(tmp_path):
    """Return ten frames of 64x48 in 8-bit RGB at ten frames per second."""
    return media.clip(tmp_path / "in.mkv", "-c:v", "ffv1", "-pix_fmt", "gbrp", picture=media.SMOOTH)


def job(*models, encoder=EXACT, **settings):
    container = "matroska" if encoder.codec == "lossless" else "mp4"
    return Job(models or (Nearest(),), encoder, container, **settings)


def opened(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def shown(path):
    """Return the frames of an animated image, and their durations in milliseconds."""
    frames = [(np.asarray(each.convert("RGB")), each.info["duration"]) for each in ImageSequence.Iterator(opened(path))]
    return np.stack([pixels for pixels, _ in frames]), [duration for _, duration in frames]


def stop_after(count):
    done = iter(range(count))

    def tick():
        if next(done, None) is None:
            raise Interrupted("stopped")

    return tick


@pytest.mark.parametrize("pattern", ["frame_%05d.png", "%d.tiff", "a %03d.bmp"])
def test_every_frame_becomes_an_image_of_its_own(clip, tmp_path, pattern):
    folder = tmp_path / "made" / "out"
    done = upscale(clip, folder / pattern, job())
    images = Numbered(str(folder / pattern))
    assert done.frames_out == 10 and images.numbers() == list(range(1, 11)) == sorted(images.numbers())
    result = np.stack([np.asarray(opened(images.path(number))) for number in range(1, 11)])
    assert (result == np.stack([repeated(frame, 2) for frame in referee.pictures(clip)])).all()
    assert len(list(folder.iterdir())) == 10


def test_numbered_images_become_images_of_the_same_numbers(clip, tmp_path):
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    media.ffmpeg("-i", clip, "-start_number", 7, tmp_path / "in" / "%d.png")
    upscale(str(tmp_path / "in" / "%d.png"), tmp_path / "out" / "%04d.jpg", job(encoder=Encoder()))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{n:04d}.jpg" for n in range(7, 17)]
    expected = repeated(referee.pictures(clip)[3], 2)
    assert np.abs(np.asarray(opened(tmp_path / "out" / "0010.jpg")).astype(int) - expected).mean() < 2


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
def test_an_image_that_moves_shows_every_frame_for_as_long_as_the_video(clip, tmp_path, suffix):
    target = tmp_path / f"out{suffix}"
    done = upscale(clip, target, job(encoder=Encoder()))
    pixels, durations = shown(target)
    expected = np.stack([repeated(frame, 2) for frame in referee.pictures(clip)])
    if suffix == ".webp":  # its encoder merges two frames that look alike
        pixels, durations = pixels.repeat([each // 100 for each in durations], 0), [100] * (sum(durations) // 100)
    assert durations == [100] * 10 and opened(target).info["loop"] == 0 and done.warnings == []
    assert np.abs(pixels.astype(int) - expected).mean() < (0.01 if suffix == ".apng" else 3)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", target.name}


def test_frames_of_uneven_times_keep_them(tmp_path):
    source = media.timed(tmp_path / "in.mkv", [0, 100, 130, 330, 1330], Fraction(1, 1000), "-c:v", "ffv1", last=250)
    for suffix in (".gif", ".apng"):
        upscale(source, tmp_path / f"out{suffix}", job(encoder=Encoder()))
        assert shown(tmp_path / f"out{suffix}")[1][:4] == [100, 30, 200, 1000]


def test_a_gif_leaves_out_what_players_would_slow_down_and_says_so(tmp_path):
    source = media.clip(tmp_path / "in.mp4", picture="testsrc2=size=64x48:rate=100:duration=0.5")
    done = upscale(source, tmp_path / "out.gif", job(encoder=Encoder()))
    pixels, durations = shown(tmp_path / "out.gif")
    assert durations == [20] * 25 and len(pixels) == 25
    assert "25 frames left out: gif shows 50 a second at most" in done.warnings


def test_what_loses_nothing_is_exact(clip, tmp_path):
    upscale(clip, tmp_path / "out.webp", job())
    assert (shown(tmp_path / "out.webp")[0] == np.stack([repeated(f, 2) for f in referee.pictures(clip)])).all()
    (tmp_path / "out").mkdir()
    for target in (tmp_path / "out.gif", tmp_path / "out" / "%d.jpg"):
        with pytest.raises(SettingsError, match="always loses some"):
            upscale(clip, target, job())


def test_what_images_do_not_hold_is_said(tmp_path):
    source = media.clip(tmp_path / "in.mkv", "-vf", "setsar=4/3", sound=media.SOUND)
    done = upscale(source, tmp_path / "out.gif", job(encoder=Encoder()))
    assert "images hold no sound: it is left out" in done.warnings
    assert any("pixels are 4:3" in warning for warning in done.warnings)
    clear = media.clip(tmp_path / "clear.mkv", "-c:v", "ffv1", "-pix_fmt", "gbrap")
    done = upscale(clear, tmp_path / "clear.gif", job(encoder=Encoder()))
    assert any("transparent parts, if any, are shown over black" in warning for warning in done.warnings)


def test_a_height_resamples_every_image(clip, tmp_path):
    (tmp_path / "out").mkdir()
    for target in (tmp_path / "out" / "%d.png", tmp_path / "out.gif"):
        upscale(clip, target, job(encoder=Encoder(height=60)))
    assert opened(tmp_path / "out" / "10.png").size == opened(tmp_path / "out.gif").size == (80, 60)


@pytest.mark.parametrize("warmup", [0, None])
def test_an_interrupted_run_continues_after_the_images_that_are_there(clip, tmp_path, warmup):
    for folder in ("whole", "out"):
        (tmp_path / folder).mkdir()
    target, model = tmp_path / "out" / "%d.png", Nearest(warmup=warmup)
    upscale(clip, tmp_path / "whole" / "%d.png", job(model))
    with pytest.raises(Interrupted) as stopped:
        upscale(clip, target, job(model), tick=stop_after(3))
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert stopped.value.__notes__ == ["kept: 4 images; the same command with `resume` continues from there"]
    with pytest.raises(TargetError, match="4 images of that name exist already"):
        upscale(clip, target, job(model))
    with pytest.raises(LogError, match="is 128x96, and this command makes 256x192"):
        upscale(clip, target, job(Nearest(4)), resume=True)
    done = upscale(clip, target, job(model), resume=True)
    assert (done.frames_resumed, done.frames_out) == (4, 10)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert kept == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept}


def test_images_of_an_earlier_run_are_replaced_or_removed(clip, tmp_path):
    (tmp_path / "out").mkdir()
    for number in (0, 5, 12, 13):
        (tmp_path / "out" / f"{number}.png").write_bytes(b"old")
    done = upscale(clip, tmp_path / "out" / "%d.png", job(), overwrite=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{number}.png" for number in range(11)}
    assert opened(tmp_path / "out" / "5.png").size == (128, 96) and done.warnings == []


def test_only_the_images_of_the_same_run_are_resumed(clip, tmp_path):
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "%d.png"
    other = media.clip(
        tmp_path / "other.mkv", "-c:v", "ffv1", "-pix_fmt", "gbrp", picture="testsrc2=size=64x48:duration=1"
    )
    upscale(other, target, job())
    with pytest.raises(TargetError, match="no interrupted run left them"):
        upscale(clip, target, job(), resume=True)
    with pytest.raises(Interrupted):
        upscale(clip, target, job(), overwrite=True, tick=stop_after(3))
    with pytest.raises(LogError, match=r"made with other settings \(source\)"):
        upscale(other, target, job(), resume=True)
    with pytest.raises(LogError, match=r"made with other settings \(prefilters\)"):
        upscale(clip, target, job(prefilters=("deblock",)), resume=True)
    done = upscale(clip, target, job(), resume=True)
    assert (done.frames_resumed, done.frames_out) == (4, 10)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{number}.png" for number in range(1, 11)}
    assert (np.asarray(opened(tmp_path / "out" / "10.png")) == repeated(referee.pictures(clip)[9], 2)).all()


def test_images_of_a_stream_are_not_resumed(clip, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(Interrupted) as stopped, clip.open("rb") as file:
        upscale(file, tmp_path / "out" / "%d.png", job(), tick=stop_after(3))
    assert stopped.value.__notes__ == ["kept: 4 images; only what comes from a file can be resumed"]
    with pytest.raises(LogError, match="a stream cannot be resumed"), clip.open("rb") as file:
        upscale(file, tmp_path / "out" / "%d.png", job(), resume=True)


@pytest.mark.parametrize("options", [{"overwrite": True}, {"resume": True}])
def test_one_run_at_a_time_writes_numbered_images(clip, tmp_path, options):
    target, refused = tmp_path / "out" / "%d.png", []

    def second():
        if not refused:
            with pytest.raises(LogError, match="another upres is writing these images") as error:
                upscale(clip, target, job(), **options)
            refused.append(error)

    assert upscale(clip, target, job(), tick=second).frames_out == 10
    assert len(refused) == 1 and len(list(target.parent.iterdir())) == 10
    with pytest.raises(Interrupted):
        upscale(clip, target, job(), overwrite=True, tick=stop_after(3))
    assert upscale(clip, target, job(), resume=True).frames_resumed == 4
    assert {path.suffix for path in target.parent.iterdir()} == {".png"}


def test_what_ends_early_leaves_no_half_image(clip, tmp_path):
    with pytest.raises(Interrupted) as stopped:
        upscale(clip, tmp_path / "out.gif", job(encoder=Encoder()), tick=stop_after(3))
    assert stopped.value.__notes__ == ["nothing is kept: an animated image is written as a whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_what_stands_in_the_way_is_said(clip, tmp_path):
    (tmp_path / "there.gif").write_bytes(b"kept")
    media.ffmpeg("-i", clip, tmp_path / "%d.png")
    for source, target, kind, words, options in [
        (clip, tmp_path / "there.gif", TargetError, "exists already", {}),
        (clip, clip / "%d.png", TargetError, "there is no folder", {}),
        (tmp_path / "%d.png", tmp_path / "%d.png", TargetError, "the input's own images", {"overwrite": True}),
        (clip, tmp_path / "out.gif", SettingsError, "there is nothing to resume", {"resume": True}),
    ]:
        with pytest.raises(kind, match=words):
            upscale(source, target, job(encoder=Encoder()), **options)
    assert (tmp_path / "there.gif").read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("in/f_001.gif", "in/f_%03d.gif"),
        ("in/g_%03d.png", "in/../in/g_%03d.png"),
        ("in/g_%03d.png", "link/g_%03d.png"),
        ("in/g_%03d.png", "in/g_%d.png"),
        ("in/g_%03d.png", "in/g_0%02d.png"),
        ("link/f_001.gif", "in/f_%03d.gif"),
    ],
)
def test_a_source_is_never_overwritten_under_another_name(clip, tmp_path, source, target):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    media.ffmpeg("-i", clip, folder / "f_001.gif")
    media.ffmpeg("-i", clip, "-start_number", 98, folder / "g_%03d.png")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TargetError, match=r"the input itself|the input's own images"):
        upscale(str(tmp_path / source), f"{tmp_path}/{target}", job(encoder=Encoder()), overwrite=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
