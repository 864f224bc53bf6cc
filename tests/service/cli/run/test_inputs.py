"""Separation of inputs and target on a command line, and the target of each input."""

import sys
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from upres.engine.core.errors import SettingsError, SourceError
from upres.engine.images.formats import FORMATS
from upres.service.cli.run.inputs import pair_inputs, split_target
from upres.service.cli.run.options import EncodingOptions, Suffixes
from upres.service.cli.run.pair import Pair


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "a.mp4",
        "b.mkv",
        "clips/c.mp4",
        "clips/d.mov",
        "more [x264]/e.mp4",
        "more [x264]/notes.txt",
        "shots/a.png",
        "shots/c.JPG",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    Image.new("RGB", (4, 4)).save(tmp_path / "photo", "JPEG")
    (tmp_path / "a.mp4").write_bytes(b"no video, and no image")
    with (tmp_path / "a.mp4").open("rb") as piped:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=BufferedReader(piped.raw)))
        yield


def targets_of(*names, suffixes=Suffixes()):  # noqa: B008 - frozen
    chosen, folder = pair_inputs(*split_target(names, [], None), suffixes)
    return [(pair.source, pair.target_name("x4", suffixes)) for pair in chosen], folder and str(folder)


@pytest.mark.parametrize(
    ("names", "inputs", "output", "sources", "target"),
    [
        (["in.mp4"], [], None, ["in.mp4"], None),
        (["in.mp4", "out.mp4"], [], None, ["in.mp4"], "out.mp4"),
        (["a.mp4", "b.mp4", "to/"], [], None, ["a.mp4", "b.mp4"], "to/"),
        (["out.mp4"], ["in.mp4"], None, ["in.mp4"], "out.mp4"),
        ([], ["in.mp4"], "out.mp4", ["in.mp4"], "out.mp4"),
        (["in.mp4"], [], "out.mp4", ["in.mp4"], "out.mp4"),
        ([], ["a.mp4", "b.mp4"], None, ["a.mp4", "b.mp4"], None),
    ],
)
def test_the_last_of_several_names_is_the_target_unless_it_is_said_otherwise(names, inputs, output, sources, target):
    assert split_target(names, inputs, output) == (sources, target)


def test_without_a_name_there_is_nothing_to_do():
    with pytest.raises(SettingsError, match="name a video: upres in"):
        split_target([], [], None)


@pytest.mark.parametrize(
    "names", [([""], [], None), (["in.mp4", " "], [], None), (["in.mp4"], [""], None), (["in.mp4"], [], "")]
)
def test_an_empty_name_is_neither_this_folder_nor_beside_the_source(names):
    with pytest.raises(SettingsError, match="a name is empty; an unset shell variable"):
        split_target(*names)


@pytest.mark.parametrize(
    ("names", "expected", "folder"),
    [
        (["a.mp4"], [("a.mp4", "a_x4.mp4")], None),
        (["https://h/x/a%20b.mp4?t=1/2"], [("https://h/x/a%20b.mp4?t=1/2", "a b_x4.mp4")], None),
        (["https://h"], [("https://h", "video_x4.mp4")], None),
        (["http://h/a.mp4", "a.mp4", "to/"], [("http://h/a.mp4", "to/a.mp4"), ("a.mp4", "to/a-2.mp4")], "to"),
        (["clips/d.mov"], [("clips/d.mov", "clips/d_x4.mov")], None),
        (["a.mp4", "b.mp4"], [("a.mp4", "b.mp4")], None),
        (["a.mp4", "new/"], [("a.mp4", "new/a.mp4")], "new"),
        (["a.mp4", "clips"], [("a.mp4", "clips/a.mp4")], "clips"),
        (["clips/c.mp4", "clips/"], [("clips/c.mp4", "clips/c_x4.mp4")], "clips"),
        (["a.mp4", "b.mkv", "new"], [("a.mp4", "new/a.mp4"), ("b.mkv", "new/b.mkv")], "new"),
        (["a.mp4", "clips", "new.d/"], [("a.mp4", "new.d/a.mp4"), ("clips/c.mp4", "new.d/c.mp4"),
                                       ("clips/d.mov", "new.d/d.mov")], "new.d"),
        (["more [x264]/*.mp4", "new"], [("more [x264]/e.mp4", "new/e.mp4")], "new"),
        (["more [x264]/[a-f].*", "new"], [("more [x264]/e.mp4", "new/e.mp4")], "new"),
        (["clips/*", "new"], [("clips/c.mp4", "new/c.mp4"), ("clips/d.mov", "new/d.mov")], "new"),
        (["a.mp4", "clips/../a.mp4", "new"], [("a.mp4", "new/a.mp4"), ("clips/../a.mp4", "new/a-2.mp4")], "new"),
        (["shots", "new"], [("shots/a.png", "new/a.png"), ("shots/c.JPG", "new/c.JPG")], "new"),
        (["a.mp4", "shots/a.png", "new"], [("a.mp4", "new/a.mp4"), ("shots/a.png", "new/a.png")], "new"),
        (["-", "new/"], [("-", "new/stdin.mp4")], "new"),
        (["photo", "new/"], [("photo", "new/photo.jpg")], "new"),
        (["photo"], [("photo", "photo_x4.jpg")], None),
    ],
)  # fmt: skip
def test_each_input_has_a_place_of_its_own(names, expected, folder):
    assert targets_of(*names) == (expected, folder)


def test_an_image_through_standard_input_stays_one(monkeypatch):
    with Path("photo").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=BufferedReader(file.raw)))
        (pair,), _ = pair_inputs(["-"], "new/", Suffixes())
    assert (pair.target, pair.image) == ("new/stdin.jpg", FORMATS[".jpg"])


def test_a_result_beside_its_source_says_how_it_was_upscaled():
    assert Pair("clips/c.mp4", None).target_name("x2", Suffixes(".mkv")) == "clips/c_x2.mkv"
    assert Pair("c.mp4", "out.mov").target_name("x2", Suffixes(".mkv")) == "out.mov"


def test_frames_of_a_video_have_their_times_in_their_names():
    def named(at, *names):
        chosen, _ = pair_inputs(*split_target(names, [], None), Suffixes(), Fraction(at))
        return [pair.target_name("x4", Suffixes()) for pair in chosen]

    assert named("5", "a.mp4") == ["a_5s_x4.png"]
    assert named("62.25", "a.mp4", "b.mkv", "new/") == ["new/a_62.25s.png", "new/b_62.25s.png"]
    assert named("0", "a.mp4", "clips/../a.mkv", "new/") == ["new/a.mp4_0s.png", "new/a.mkv_0s.png"]
    assert named("0", "a.mp4", "photo.png", "new/") == ["new/a_0s.png", "new/photo.png"]
    assert named("5", "a.mp4", "look.png") == ["look.png"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, ["a.mp4", "b.mkv", "c.mov", "d.mp4", "e.mp4"]),
        ({"codec": "av1"}, ["a.mp4", "b.mkv", "c.mp4", "d.mp4", "e.mp4"]),
        ({"codec": "prores"}, ["a.mov", "b.mov", "c.mov", "d.mov", "e.mov"]),
        ({"lossless": True}, ["a.mkv", "b.mkv", "c.mkv", "d.mkv", "e.mkv"]),
        ({"container": "mkv"}, ["a.mkv", "b.mkv", "c.mkv", "d.mkv", "e.mkv"]),
        ({"container": "webm"}, ["a.webm", "b.webm", "c.webm", "d.webm", "e.webm"]),
    ],
)
def test_a_result_that_nobody_named_is_in_its_sources_container_where_that_can_be(settings, named):
    suffixes = EncodingOptions(**settings).suffixes()
    sources = ("a.mp4", "b.MKV", "c.mov", "d.webm", "e.ts")
    assert [Path(source).stem + suffixes.of(Path(source)) for source in sources] == named
    assert suffixes.stdout == f".{settings.get('container', 'mkv')}"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"codec": "prores", "container": "mp4"}, ".mp4 does not support prores; choose --container mov or mkv"),
        ({"lossless": True, "container": "webm"}, ".webm does not support --lossless; choose --container mkv"),
        ({"container": "avi"}, "--container must be mp4, mov, mkv, webm, got 'avi'"),
    ],
)
def test_a_container_that_does_not_take_the_codec_is_refused_with_those_that_do(settings, words):
    with pytest.raises(SettingsError) as refused:
        EncodingOptions(**settings).suffixes()
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.mp4", "b.mkv", "clips/c.mp4"], "2 inputs need a folder as the target, and clips/c.mp4 is not one"),
        (["clips", "out.mp4"], "out.mp4 is not one; name it last, ending in /"),
        (["clips", "-"], "- is not one"),
        (["clips"], "name a folder for the results: upres 'clips' upscaled/"),
        (["-"], "name a target for standard input"),
    ],
)
def test_what_has_no_place_is_refused_with_what_to_name(names, words):
    with pytest.raises(SettingsError) as refused:
        targets_of(*names)
    assert words in str(refused.value)


def test_a_pattern_that_nothing_matches_is_said():
    with pytest.raises(SourceError, match=r"no video or image matches"):
        targets_of("more [x264]/*.txt", "new")


def test_numbered_images_that_should_become_one_file_are_said_to_be_a_video_by_their_pattern(tmp_path):
    for number in range(8, 12):
        (tmp_path / f"{number:02d}.png").touch()
    with pytest.raises(
        SettingsError, match=r"to make a video of numbered images, name their pattern: upres '%02d.png' all.mp4"
    ):
        targets_of("*.png", "all.mp4")
    with pytest.raises(SettingsError, match="need a folder") as refused:
        targets_of("shots", "all.mp4")
    assert "pattern" not in str(refused.value)
