"""The inventory lists everything in a source, and the user is informed about items that are not carried to the result."""

import re
import struct
from fractions import Fraction

import av
import media
import pytest
import referee
import surgery
from fake import upscaled
from paths import CASES

from upres.engine.decode.cut import Cut
from upres.engine.decode.inventory import Kind
from upres.engine.decode.reader import Reader

TIMECODE = ("-timecode", "01:00:00:00")


def kinds(source):
    with Reader(source) as reader:
        return [item.kind for item in reader.inventory]


@pytest.fixture(scope="module")
def rich(clips):
    """A Matroska file with two video tracks, a cover, an attachment, subtitles, chapters and tags."""
    (clips / "font.ttf").write_bytes(b"\0\1\0\0" + bytes(200))
    (clips / "labels.txt").write_text(
        ";FFMETADATA1\ntitle=A film\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=One\n"
    )
    (clips / "lines.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nHello\n")
    media.clip(clips / "cover.png", "-frames:v", 1)
    path = clips / "rich.mkv"
    inputs = ("-f", "lavfi", "-i", media.PICTURE, "-f", "lavfi", "-i", media.SOUND)
    texts = ("-i", clips / "lines.srt", "-i", clips / "labels.txt", "-map_metadata", 3)
    tracks = ("-map", 0, "-map", 0, "-map", 1, "-map", 2, "-c:v", "libx264", "-c:a", "aac", "-c:s", "srt")
    font = ("-attach", clips / "font.ttf", "-metadata:s:t:0", "mimetype=font/ttf")
    cover = ("-attach", clips / "cover.png", "-metadata:s:t:1", "mimetype=image/png")
    media.ffmpeg(*inputs, *texts, *tracks, *font, *cover, path)
    return path


def test_tracks_and_what_belongs_to_the_whole_file_are_listed(rich):
    tracks = [Kind.VIDEO, Kind.OTHER_VIDEO, Kind.AUDIO, Kind.SUBTITLES, Kind.COVER, Kind.ATTACHMENT]
    assert sorted(kinds(rich)) == sorted([*tracks, Kind.CHAPTERS, Kind.TAGS])
    assert kinds(CASES / "iphone.mov") == [Kind.VIDEO, Kind.AUDIO, Kind.AUDIO, Kind.TIMECODE, Kind.TAGS]


def test_what_lies_beside_the_pixels_is_listed(tmp_path):
    assert kinds(CASES / "spherical.mp4") == [Kind.VIDEO, Kind.SPHERICAL]
    assert kinds(CASES / "prores4444_alpha.mov") == [Kind.VIDEO, Kind.ALPHA]
    stereo = media.clip(tmp_path / "in.mkv", "-c:v", "libx264", "-metadata:s:v", "stereo_mode=left_right")
    assert kinds(stereo) == [Kind.VIDEO, Kind.STEREO]


def test_a_track_of_chapter_names_is_no_item_of_its_own(rich, tmp_path):
    media.ffmpeg("-i", rich, "-map", "0:v:0", "-map", "0:a", "-c", "copy", tmp_path / "in.mp4")
    assert kinds(tmp_path / "in.mp4") == [Kind.VIDEO, Kind.AUDIO, Kind.CHAPTERS, Kind.TAGS]


def test_a_track_of_measurements_beside_chapters_is_one(rich, tmp_path):
    """Cameras write both, and libavformat uses the same name for the track and for chapter titles."""
    without_measurements, path = tmp_path / "made.mp4", tmp_path / "in.mp4"
    text = ("-c:s", "mov_text", "-map", "0:v:0", "-map", "0:s")
    media.ffmpeg("-i", rich, *text, "-c:v", "copy", without_measurements)
    path.write_bytes(surgery.boxes(without_measurements.read_bytes(), _measured))
    assert kinds(path) == [Kind.VIDEO, Kind.DATA, Kind.CHAPTERS, Kind.TAGS]


def _measured(kind, body):
    if kind == b"hdlr" and body[8:12] == b"sbtl":
        return body[:8] + b"meta" + body[12:]
    return surgery.first_entry(body, b"tx3g", name=b"gpmd") if kind == b"stsd" else body


def test_tracks_of_a_broadcast_s_other_programs_are_named(tmp_path):
    other = "testsrc2=size=96x64:rate=10:duration=1"
    inputs = [each for source in (media.PICTURE, media.SOUND, other, media.SOUND, media.SOUND)
              for each in ("-f", "lavfi", "-i", source)]  # fmt: skip
    maps = [each for track in range(5) for each in ("-map", track)]
    names = [each for track, name in enumerate(("deu", "eng", "fra"))
             for each in (f"-metadata:s:a:{track}", f"language={name}")]  # fmt: skip
    programs = ("-program", "st=0:st=1", "-program", "st=2:st=3", "-program", "st=4")  # the last program is radio
    media.ffmpeg(*inputs, *maps, "-c:v", "mpeg2video", "-c:a", "mp2", *names, *programs, tmp_path / "in.ts")
    notes = upscaled(tmp_path / "in.ts", tmp_path / "out.mkv").warnings
    assert sum("is left out: it belongs to another program" in note for note in notes) == 3
    assert [each["tags"].get("language") for each in referee.streams(tmp_path / "out.mkv", "audio")] == ["deu"]


@pytest.mark.parametrize(
    ("programs", "language"),
    [
        (("st=0:st=1", "st=2:st=1"), "deu"),
        (("st=2:st=1", "st=0:st=1"), "deu"),
        (("st=1", "st=0:st=1", "st=2:st=1"), "deu"),  # a radio program with the same audio
        (("st=0", "st=2"), None),  # its language is not stored anywhere
        (("st=2", "st=0"), None),
    ],
)
def test_sound_that_programs_share_and_sound_that_none_lists_belongs_to_the_picture(tmp_path, programs, language):
    inputs = [each for source in (media.PICTURE, media.SOUND, "testsrc2=size=96x64:rate=10:duration=1")
              for each in ("-f", "lavfi", "-i", source)]  # fmt: skip
    tracks = ("-map", 0, "-map", 1, "-map", 2, "-c:v", "mpeg2video", "-c:a", "mp2", "-metadata:s:a:0", "language=deu")
    listed = [each for program in programs for each in ("-program", program)]
    media.ffmpeg(*inputs, *tracks, *listed, tmp_path / "in.ts")
    notes = upscaled(tmp_path / "in.ts", tmp_path / "out.mkv").warnings
    sound = referee.streams(tmp_path / "out.mkv", "audio")
    assert [each.get("tags", {}).get("language") for each in sound] == [language]
    assert sum("it belongs to another program" in note for note in notes) == 1  # the other video


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_what_a_phone_wrote_of_date_place_and_model_is_carried(tmp_path, suffix):
    upscaled(CASES / "iphone.mov", tmp_path / f"out{suffix}")
    tags = media.ffmpeg("-i", tmp_path / f"out{suffix}", "-f", "ffmetadata", "-").decode().lower()
    for key, value in (
        ("creationdate", "2024-05-01t10:11:12+0200"),
        ("location.iso6709", "+48.2082"),
        ("make", "apple"),
    ):
        assert f"com.apple.quicktime.{key}={value}" in tags


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_does_not_reach_the_result_is_named(rich, tmp_path, suffix):
    notes = "\n".join(upscaled(rich, tmp_path / f"rich{suffix}").warnings)
    assert "other video, track 1 (h264) is left out: one video track is upscaled" in notes
    assert "cover" in notes
    for source, word in (
        (CASES / "spherical.mp4", "spherical projection"),
        (CASES / "iphone.mov", "no decoder for it"),
    ):
        notes = "\n".join(upscaled(source, tmp_path / f"{source.stem}-{word}{suffix}").warnings)
        assert word in notes


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_spatial_audio_is_named(tmp_path, suffix):
    """libavformat shows nothing of it."""
    sound = "aevalsrc=0|0|0|0:channel_layout=quad:duration=1"
    quad_clip = media.clip(tmp_path / "made.mp4", "-c:v", "libx264", "-c:a", "aac", sound=sound)
    box = struct.pack(">I4sBBIBBI4I", 36, b"SA3D", 0, 0, 1, 0, 0, 4, 0, 1, 2, 3)

    def change(kind, body):
        return surgery.first_entry(body, b"mp4a", box) if kind == b"stsd" else body

    (tmp_path / "in.mp4").write_bytes(surgery.boxes(quad_clip.read_bytes(), change))
    assert not upscaled(quad_clip, tmp_path / f"plain{suffix}").warnings
    (note,) = upscaled(tmp_path / "in.mp4", tmp_path / f"out{suffix}").warnings
    assert note.startswith("spatial audio (ambisonic) is left out: the channels are carried")
    assert referee.streams(tmp_path / f"out{suffix}", "audio")[0]["channel_layout"] == "quad"


def timecodes(path):
    """Return the time codes of all tracks that ffmpeg finds in a file."""
    written = media.ffmpeg("-i", path, "-f", "ffmetadata", "-").decode() + str(referee.listing(path))
    return set(re.findall(r"(?i)timecode\W+(\d\d:\d\d:\d\d[:;]\d+)", written))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_time_code_is_carried_unless_the_result_begins_later(tmp_path, suffix):
    quicktime_clip = media.clip(tmp_path / "in.mov", "-c:v", "libx264", *TIMECODE)
    tape = media.clip(tmp_path / "in.dv", "-target", "pal-dv", "-frames:v", 3, "-timecode", "02:00:00:00")
    media.ffmpeg("-i", quicktime_clip, "-c", "copy", tmp_path / "in.mkv")
    for source in (CASES / "iphone.mov", quicktime_clip, tape, tmp_path / "in.mkv"):
        out, cut = tmp_path / f"out-{source.name}{suffix}", tmp_path / f"cut-{source.name}{suffix}"
        assert "time code" not in "".join(upscaled(source, out).warnings)
        assert timecodes(out) == timecodes(source) != set()
        begins_later = Cut(Fraction(1, 20))
        assert "says when the source begins" in "".join(upscaled(source, cut, cut=begins_later).warnings)
        assert timecodes(cut) == set()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize(
    ("code", "rate", "refused"),
    [
        ("01:00:00;02", "24", True),
        ("nonsense", "24", True),
        ("01:00:00;02", "30000/1001", False),
        ("02:00:00:09", "10", False),
    ],
)
def test_a_time_code_that_a_container_refuses_is_named(tmp_path, suffix, code, rate, refused):
    """Drop-frame time code requires 29.97 frames per second; Matroska accepts any text."""
    picture = f"testsrc2=size=64x48:rate={rate}:duration=0.5"
    source = media.clip(tmp_path / "in.mkv", "-c:v", "libx264", "-metadata", f"timecode={code}", picture=picture)
    notes = "".join(upscaled(source, tmp_path / f"out{suffix}").warnings)
    if refused and suffix in (".mp4", ".mov"):
        named = f"time code ({code}) is left out: {suffix[1:]} cannot carry it at 24 frames a second; mkv can"
        assert named in notes
    else:
        assert "time code" not in notes
        with av.open(str(tmp_path / f"out{suffix}")) as out:
            labels = [out.metadata, *(stream.metadata for stream in out.streams)]
        codes = {
            value.replace(":9", ":09") for tags in labels for key, value in tags.items() if key.lower() == "timecode"
        }
        assert codes == {code}


@pytest.fixture(scope="module")
def tagged(clips):
    """Return a Matroska file with tags to keep, tags of its muxer, and a statistics tag."""
    file = (
        "title=A film",
        "director=Jane",
        "imdb=tt1",
        "writing_app=x",
        "encoded_by=y",
        "creation_time=2024-05-01T10:11:12Z",
    )
    options = [option for tag in file for option in ("-metadata", tag)]
    track = ("-metadata:s:v", "shot_on=35 mm", "-metadata:s:v", "BPS=9", "-metadata:s:v", "title=Main")
    return media.clip(clips / "tagged.mkv", "-c:v", "libx264", *options, *track)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_tags_that_a_container_has_no_place_for_are_named(tagged, tmp_path, suffix):
    notes = [note for note in upscaled(tagged, tmp_path / f"out{suffix}").warnings if "tags" in note]
    container = suffix[1:]
    assert notes == [
        f"tags (DIRECTOR, IMDB), left out: {container} has no place for them, and mkv has",
        f"tags, track 0 (SHOT_ON), left out: {container} has no place for them, and mkv has",
    ]
    written = media.ffmpeg("-i", tmp_path / f"out{suffix}", "-f", "ffmetadata", "-").decode()
    assert "title=A film" in written and "Jane" not in written


def test_matroska_has_a_place_for_every_tag(tagged, tmp_path):
    assert upscaled(tagged, tmp_path / "out.mkv").warnings == []
    written = media.ffmpeg("-i", tmp_path / "out.mkv", "-f", "ffmetadata", "-").decode()
    assert "DIRECTOR=Jane" in written and "IMDB=tt1" in written


def test_many_tags_make_one_short_note(tmp_path):
    options = [option for number in range(300) for option in ("-metadata", f"tag{number}=x{number}")]
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "libx264", *options)
    [note] = upscaled(clip, tmp_path / "out.mp4").warnings
    assert "and 290 more" in note and len(note) < 200


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_place_that_other_phones_write_is_carried(tmp_path, suffix):
    clip = media.clip(tmp_path / "in.mov", "-c:v", "libx264", "-metadata", "location=+48.2082+016.3738/")
    assert upscaled(clip, tmp_path / f"out{suffix}").warnings == []
    written = media.ffmpeg("-i", tmp_path / f"out{suffix}", "-f", "ffmetadata", "-").decode()
    assert "location=+48.2082+016.3738/" in written


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_title_of_a_track_of_an_mp4_is_carried(tmp_path, suffix):
    clip = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", "-metadata:s:v", "title=Main")
    assert upscaled(clip, tmp_path / f"out{suffix}").warnings == []
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        metadata = container.streams.video[0].metadata
    assert "Main" in (metadata.get("name"), metadata.get("title"))


def test_what_a_source_calls_its_tracks_commands_no_terminal(tmp_path):
    title = ("-metadata:s:a", "title=a\x1b[31m\x07b\n c", "-metadata", "x\x1by=1")
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "libx264", "-c:a", "pcm_u8", *title, sound=media.SOUND)
    notes = upscaled(clip, tmp_path / "out.mp4").warnings
    assert notes[0] == "audio, track 1 (pcm_u8, a [31m b c) cannot be copied into mp4 and becomes AAC"
    assert notes[1].startswith("tags (X Y), left out") and all(note.isprintable() for note in notes)
