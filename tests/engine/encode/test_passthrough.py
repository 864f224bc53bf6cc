"""Items carried with the video: audio, subtitles, chapters and tags; copied if the container supports them."""

import re
from fractions import Fraction
from pathlib import Path

import media
import pytest
import referee
from fake import upscaled

from upres.engine.decode.cut import Cut

pytestmark = pytest.mark.referee
# Earlier versions show a shortened subtitle up to its original end, and play the padding of the last AAC packet in MP4.
recent = pytest.mark.skipif(media.version() < (7, 0), reason="needs an ffmpeg that hides what is cut")

CASES = Path(__file__).parents[2] / "data" / "cases"
LINES = "1\n00:00:00,100 --> 00:00:00,400\none\n\n2\n00:00:00,500 --> 00:00:00,900\ntwo\n\n"
CHAPTERS = """;FFMETADATA1
title=The title
artist=Somebody
creation_time=2020-02-03T04:05:06.000000Z
[CHAPTER]
TIMEBASE=1/1000
START=0
END=400
title=first
[CHAPTER]
TIMEBASE=1/1000
START=400
END=1000
title=second
"""


@pytest.fixture(scope="module")
def rich(clips):
    """Return a film with two languages, one of them for the hard of hearing, subtitles, chapters, a title and a date."""
    (clips / "lines.srt").write_text(LINES)
    (clips / "chapters.txt").write_text(CHAPTERS)

    def make(name, subtitles):
        media.ffmpeg(
            "-f", "lavfi", "-i", media.PICTURE, "-f", "lavfi", "-i", media.SOUND, "-i", clips / "lines.srt",
            "-i", clips / "chapters.txt", "-map", 0, "-map", 1, "-map", 1, "-map", 2, "-map_metadata", 3, "-c:v", "libx264",
            "-c:a:0", "aac", "-c:a:1", "flac", "-c:s", subtitles, "-strict", -2, "-metadata:s:v", "language=jpn",
            "-metadata:s:a:0", "language=fra",
            "-metadata:s:a:1", "language=deu", "-metadata:s:a:1", "title=Described", "-metadata:s:s", "language=ita",
            "-disposition:a:0", 0, "-disposition:a:1", "default+hearing_impaired", "-disposition:s:0", "forced", clips / name,
        )  # fmt: skip
        return clips / name

    return make


@pytest.mark.parametrize(("name", "subtitles"), [("rich.mkv", "srt"), ("rich.mp4", "mov_text"), ("ass.mkv", "ass")])
def test_everything_is_carried_into_the_same_container(rich, tmp_path, name, subtitles):
    clip, out = rich(name, subtitles), tmp_path / name
    assert upscaled(clip, out).warnings == []
    was, now = referee.listing(clip), referee.listing(out)
    for before, after in zip(was.streams, now.streams, strict=True):
        assert (after["codec_type"], after["tags"]["language"]) == (before["codec_type"], before["tags"]["language"])
        assert after["disposition"] == before["disposition"]
        if before["codec_type"] != "video":
            assert after["codec_name"] == before["codec_name"]
    assert now.streams[2]["tags"].get("title") == was.streams[2]["tags"].get("title")
    assert now.chapters == was.chapters and [title for *_, title in was.chapters] == ["first", "second"]
    tags = {key.lower(): value for key, value in now.tags.items()}
    for tag in ("title", "artist", "creation_time", "ARTIST", "CREATION_TIME"):
        if tag in was.tags:
            assert tags[tag.lower()] == was.tags[tag]
    for track in (0, 1):
        if name.endswith("mp4") or track:
            assert referee.sound_digest(out, track) == referee.sound_digest(clip, track)
    assert lines(out) == lines(clip)


def lines(path):
    """Return the visible subtitles with their times."""
    return media.ffmpeg("-copyts", "-i", path, "-map", "0:s:0", "-f", "srt", "-")


@pytest.mark.parametrize("name", ["rich.mkv", "ass.mkv", "web.mkv"])
@pytest.mark.parametrize("target", ["out.mp4", "out.mov"])
def test_text_becomes_what_mp4_and_mov_show(rich, tmp_path, name, target):
    clip, out = rich(name, {"rich.mkv": "srt", "ass.mkv": "ass", "web.mkv": "webvtt"}[name]), tmp_path / target
    (note,) = (note for note in upscaled(clip, out).warnings if "subtitles" in note and "marked" not in note)
    assert note.endswith("and becomes mov_text")
    (track,) = referee.streams(out, "subtitle")
    assert (track["codec_name"], track["tags"]["language"]) == ("mov_text", "ita")
    assert lines(out) == lines(clip)


def test_mov_text_becomes_text_that_matroska_holds(rich, tmp_path):
    clip, out = rich("rich.mp4", "mov_text"), tmp_path / "out.mkv"
    (note,) = upscaled(clip, out).warnings
    assert note.endswith("cannot be copied into matroska and becomes subrip")
    assert lines(out) == lines(clip)


def test_webm_gets_what_it_holds_and_the_rest_becomes_that(rich, tmp_path):
    clip, out = rich("ass.mkv", "ass"), tmp_path / "out.webm"
    notes = [note for note in upscaled(clip, out).warnings if "marked" not in note]
    assert [note.rpartition(" becomes ")[2] for note in notes] == ["Opus", "Opus", "webvtt"]
    was, now = referee.listing(clip), referee.listing(out)
    assert [stream["codec_name"] for stream in now.streams] == ["vp9", "opus", "opus", "webvtt"]
    for before, after in zip(was.streams, now.streams, strict=True):
        assert after["tags"]["language"] == before["tags"]["language"]
        assert ("default" in after["disposition"]) == ("default" in before["disposition"])
    assert now.chapters == was.chapters and now.tags["ARTIST"] == was.tags["ARTIST"]
    assert re.sub(rb"<[^>]*>", b"", lines(out)) == re.sub(rb"<[^>]*>", b"", lines(clip))


@pytest.mark.parametrize("target", ["out.mkv", "out.webm", "out.mov"])
def test_no_track_is_said_to_come_from_the_encoder_of_its_source(rich, tmp_path, target):
    clip, out = rich("rich.mkv", "srt"), tmp_path / target
    upscaled(clip, out)
    assert "libx264" in referee.streams(clip, "video")[0]["tags"]["ENCODER"]
    assert not any("Lavc" in value for stream in referee.listing(out).streams for value in stream["tags"].values())


def test_fonts_are_carried_into_matroska_and_named_elsewhere(tmp_path):
    font = bytes(range(256)) * 40
    (tmp_path / "made.ttf").write_bytes(font)
    plain = media.clip(tmp_path / "plain.mkv", "-c:v", "libx264")
    attached = ("-attach", tmp_path / "made.ttf", "-metadata:s:t", "mimetype=application/x-truetype-font")
    media.ffmpeg("-i", plain, "-c", "copy", *attached, tmp_path / "made.mkv")
    for clip in (CASES / "anime.mkv", tmp_path / "made.mkv"):
        out = tmp_path / f"out.{clip.name}"
        assert upscaled(clip, out).warnings == []
        assert dumped(out, tmp_path) == dumped(clip, tmp_path)
        notes = upscaled(clip, tmp_path / f"{clip.stem}.mp4").warnings
        assert any("is left out: only Matroska holds attachments" in note for note in notes)


def dumped(path, tmp_path):
    """Return the first attachment of a file."""
    media.ffmpeg("-dump_attachment:t:0", tmp_path / "dumped", "-i", path, "-t", 0.1, "-f", "null", "-")
    return (tmp_path / "dumped").read_bytes()


def test_sound_the_target_cannot_hold_becomes_aac_and_is_named(tmp_path):
    clip = media.clip(tmp_path / "in.wmv", "-c:v", "wmv2", "-c:a", "wmav2", sound=media.SOUND)
    progress = upscaled(clip, tmp_path / "out.mp4")
    assert progress.warnings == ["audio, track 1 (wmav2) cannot be copied into mp4 and becomes AAC"]
    assert referee.streams(tmp_path / "out.mp4", "audio")[0]["codec_name"] == "aac"


NOISE = "anoisesrc=duration=5:sample_rate=44100:seed=1"
COPIED = [
    ("pcm_s16le", ".avi", ".mkv"),
    ("pcm_s24le", ".mov", ".mov"),
    ("pcm_u8", ".avi", ".mov"),
    ("wavpack", ".mkv", ".mkv"),
    ("flac", ".avi", ".mp4"),
    ("ac3", ".avi", ".mkv"),
    ("truehd", ".mkv", ".mkv"),
    ("alac", ".mov", ".mp4"),
]


@pytest.mark.parametrize(("codec", "source", "target"), COPIED)
def test_sound_that_the_target_can_hold_is_copied_sample_by_sample(tmp_path, codec, source, target):
    picture = "testsrc2=size=64x48:rate=10:duration=5"
    options = ("-c:v", "mpeg4", "-c:a", codec, "-strict", -2)
    clip = media.clip(tmp_path / f"in{source}", *options, picture=picture, sound=NOISE)
    out = tmp_path / f"out{target}"
    assert upscaled(clip, out).warnings == []
    assert referee.streams(out, "audio")[0]["codec_name"] == codec
    assert referee.sound_digest(out) == referee.sound_digest(clip)
    assert float(referee.audio(out).end) == pytest.approx(5, abs=0.02)


@pytest.mark.parametrize(("codec", "source"), [("pcm_s16le", ".mov"), ("truehd", ".mkv"), ("tta", ".mkv")])
def test_sound_that_becomes_aac_lasts_as_long_as_it_did(tmp_path, codec, source):
    picture = "testsrc2=size=64x48:rate=10:duration=5"
    options = ("-c:v", "mpeg4", "-c:a", codec, "-strict", -2)
    clip = media.clip(tmp_path / f"in{source}", *options, picture=picture, sound=NOISE)
    upscaled(clip, tmp_path / "out.mp4")
    assert float(referee.audio(tmp_path / "out.mp4").end) == pytest.approx(5, abs=0.03)


SHAPES = [(layout, 48000) for layout in ("mono", "stereo", "2.1", "quad", "5.1", "7.1")]
SHAPES += [("stereo", rate) for rate in (8000, 11000, 22050, 96000)]


@pytest.mark.parametrize(("layout", "rate"), SHAPES)
def test_sound_of_every_shape_can_be_encoded(tmp_path, layout, rate):
    sound = f"sine=duration=1:sample_rate={rate},aformat=channel_layouts={layout}"
    clip = media.clip(tmp_path / "in.avi", "-c:v", "mpeg4", "-c:a", "pcm_u8", sound=sound)
    upscaled(clip, tmp_path / "out.mp4")
    assert referee.streams(tmp_path / "out.mp4", "audio")[0]["codec_name"] == "aac"
    assert abs(referee.audio(tmp_path / "out.mp4").end - 1) < 0.2


def test_a_hole_in_sound_that_is_encoded_stays_a_hole(tmp_path):
    whole = media.clip(
        tmp_path / "whole.mkv", "-c:v", "libx264", "-c:a", "wmav2",
        picture="testsrc2=size=64x48:rate=10:duration=3", sound="sine=duration=3:sample_rate=48000",
    )  # fmt: skip
    hole = "setts=pts='PTS+gt(PTS,1000)*1000':dts='DTS+gt(DTS,1000)*1000'"
    media.ffmpeg("-i", whole, "-c", "copy", "-bsf:a", hole, tmp_path / "in.mkv")
    upscaled(tmp_path / "in.mkv", tmp_path / "out.mp4")
    sound = abs(referee.sound(tmp_path / "out.mp4"))
    assert sound[48000 * 6 // 5 : 48000 * 9 // 5].max() < 0.01
    assert sound[48000 * 5 // 2 : 48000 * 3].max() > 0.05


def test_no_sound_stays_no_sound(tmp_path):
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264")
    upscaled(clip, tmp_path / "out.mp4")
    assert [stream["codec_type"] for stream in referee.listing(tmp_path / "out.mp4").streams] == ["video"]


def test_sound_that_is_announced_and_never_comes_is_left_out(clips, tmp_path):
    """MPEG-TS announces tracks before they begin; nothing else is known of a track without packets."""
    whole, silent = media.clip(clips / "whole.ts", "-c:a", "aac", sound=media.SOUND), tmp_path / "silent.ts"
    data = whole.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    silent.write_bytes(b"".join(packet for packet in packets if int.from_bytes(packet[1:3], "big") & 0x1FFF != 0x101))
    progress = upscaled(silent, tmp_path / "out.mp4")
    assert progress.frames_out == 10 and progress.warnings == [
        "audio, track 1 (aac) is left out: it is announced, but has no data at the beginning"
    ]
    assert referee.listing(tmp_path / "out.mp4").streams[0]["codec_type"] == "video"


@recent
def test_what_a_cut_begins_or_ends_in_is_cut_with_it(rich, tmp_path):
    """A subtitle visible at the start of the cut keeps its end, and the chapter at its end is cut off there."""
    cut = Cut(Fraction(1, 5), Fraction(1, 2))
    upscaled(rich("rich.mkv", "srt"), tmp_path / "out.mkv", cut=cut)
    [(first, shown), (second, _)] = [(each.pts, each.duration) for each in referee.stored(tmp_path / "out.mkv", "s:0")]
    assert (float(first), float(shown), float(second)) == (0, 0.2, 0.3)
    chapters = [(start, end) for start, end, _ in referee.listing(tmp_path / "out.mkv").chapters]
    assert chapters == [(0, 0.2), (0.2, 0.5)]


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        (".mkv", [None] * 4),
        (".mp4", [None, "original", None, "language pt-BR"]),
        (".mov", ["comment", "original", "hearing impaired", "language pt-BR"]),
        (".webm", ["comment", "original", "hearing impaired", None]),
    ],
)
def test_what_a_track_is_marked_as_is_carried_or_named(tmp_path, suffix, lost):
    marks = ("-disposition:a:0", "comment", "-disposition:a:1", "original", "-disposition:a:2", "hearing_impaired")
    names = [each for track, name in enumerate(("ger", "eng", "ita", "pt-BR"))
             for each in (f"-metadata:s:a:{track}", f"language={name}")]  # fmt: skip
    tracks = [each for track in (0, 1, 1, 1, 1) for each in ("-map", track)]
    options = (*tracks, "-c:v", "libx264", "-c:a", "libopus", *marks, *names)
    clip = media.clip(tmp_path / "in.mkv", *options, sound=media.SOUND)
    notes = [note for note in upscaled(clip, tmp_path / f"out{suffix}").warnings if "no longer marked" in note]
    named = [(track, mark) for track, mark in enumerate(lost, 1) if mark]
    assert len(notes) == len(named)
    for note, (track, mark) in zip(notes, named, strict=True):
        assert note.startswith(f"audio, track {track} (opus) is no longer marked as {mark}: ")
    now = referee.streams(tmp_path / f"out{suffix}", "audio")
    kept = [now[0]["disposition"] & {"comment"}, now[2]["disposition"] & {"hearing impaired"}]
    assert kept == [set() if lost[0] else {"comment"}, set() if lost[2] else {"hearing impaired"}]
    assert [each["tags"].get("language") for each in now[:3]] == ["ger", "eng", "ita"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_last_picture_of_a_disc_s_subtitles_is_carried(tmp_path, suffix):
    """The subtitles contain their durations themselves; MP4 plays a track up to the end of its last packet's duration."""
    clip = media.clip(tmp_path / "plain.mkv", "-c:v", "libx264", picture="testsrc2=size=64x48:rate=10:duration=3")
    tracks = ("-map", 0, "-map", 1, "-c", "copy")
    media.ffmpeg("-i", clip, "-i", CASES / "vobsub.mkv", *tracks, tmp_path / "in.mkv")
    notes = upscaled(tmp_path / "in.mkv", tmp_path / f"out{suffix}").warnings
    if suffix == ".mov":
        assert "subtitles, track 1 (dvd_subtitle) is left out: mov cannot hold it" in "".join(notes)
        return
    times = [
        [float(each.pts) for each in referee.stored(path, "s:0")]
        for path in (tmp_path / "in.mkv", tmp_path / f"out{suffix}")
    ]
    assert times[1] == pytest.approx(times[0], abs=0.002) and len(times[0]) == 2


@recent
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_what_fills_the_last_packet_of_aac_stays_hidden(tmp_path, codec, suffix):
    """At 8000 samples per second, a packet lasts an eighth of a second."""
    sound = "sine=duration=1.9:sample_rate=8000"
    source = tmp_path / ("in.mp4" if codec == "aac" else "in.avi")
    clip = media.clip(source, "-c:v", "mpeg4", "-c:a", codec if codec == "aac" else "pcm_u8", sound=sound)
    upscaled(clip, tmp_path / f"out{suffix}")
    audio = referee.audio(tmp_path / f"out{suffix}")
    assert (float(audio.times[0]), float(audio.end)) == pytest.approx((0, 1.9), abs=0.01)
