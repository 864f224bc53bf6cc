"""Errors of the command line: one message, an exit code, and nothing left behind."""

import media
import pytest
from written import names


def test_a_folder_that_is_no_log_is_left_alone(upres, tiny, tmp_path):
    (tmp_path / "out.mp4.upres").mkdir()
    (tmp_path / "out.mp4.upres" / "mine.txt").write_text("mine")
    code, _, err = upres(tiny, tmp_path / "out.mp4", "--overwrite")
    assert code == 6
    assert "it holds no log; move it, or choose another output" in err
    assert (tmp_path / "out.mp4.upres" / "mine.txt").read_text() == "mine"


def test_what_is_there_and_no_folder_is_not_advised_as_one(upres, tiny):
    code, _, err = upres(tiny, "/dev/null")
    assert code == 5 and "the name must end in .mp4" in err and "a folder" not in err


def test_a_still_does_not_replace_its_own_source(upres, tmp_path):
    picture = media.clip(tmp_path / "pic.png", "-frames:v", 1)
    before = picture.read_bytes()
    code, _, err = upres(picture, picture, "--still", "0", "--overwrite")
    assert code == 5
    assert "is the input itself" in err
    assert picture.read_bytes() == before


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nowhere.mp4", "out.mp4"], 3, "no such file"),
        (["{tiny}", "out.mp4", "--model", "Nothing_x9"], 4, "RealESRGAN_Vid_x4, RealESRGAN_Vid_x2, FlashVSR_Tiny"),
        (["{tiny}", "out.mp4", "--model", "realesrgan-x2plus"], 4, "upres pull realesrgan-x2plus"),
        (["{tiny}", "out.txt"], 5, "must end in .mp4"),
        (["{tiny}", "nowhere/out.mp4"], 5, "no folder nowhere"),
        (
            ["nowhere.mp4", "nowhere/out.mp4"],
            3,
            "nowhere.mp4: no such file; nowhere/out.mp4: there is no folder nowhere",
        ),
        (["{tiny}", "{tiny}", "--overwrite"], 5, "is the input itself"),
        (
            ["{tiny}", "out.mp4", "--crf", "99", "--preset", "warp"],
            2,
            "--crf must lie in 0..51, got 99 (of av1 and vp9 in 0..63: name the codec); --preset must be one of",
        ),
        (
            ["{tiny}", "out.mp4", "--codec", "prores"],
            2,
            ".mp4 does not support prores; name the output out.mov or out.mkv",
        ),
        (["{tiny}", "out.mkv", "--codec", "ffv1", "--crf", "9"], 2, "ffv1 has no --crf and no --preset"),
        (
            ["{tiny}", "out.mp4", "--codec", "h264", "--encoder-option", "bf=3"],
            2,
            "frames must not be reordered in the log",
        ),
        (["{tiny}", "out.mp4", "--codec", "h264", "--encoder-option", "bf"], 2, "must be KEY=VALUE, such as tune=film"),
        (["{tiny}", "out.mp4", "--prefilter", "shine"], 2, "unknown pre-filter: shine; there are: deinterlace"),
        (
            ["{tiny}", "out.mp4", "--height", "100", "--model", "RealESRGAN_Vid_x2"],
            2,
            "--height 100 exceeds the upscaled height: 2 times 32 pixels is 64; RealESRGAN_Vid_x4 gives 128",
        ),
        (["{tiny}", "out.mp4", "--height", "200"], 2, "--chain RealESRGAN_Vid_x4,RealESRGAN_Vid_x2"),
        (["{tiny}", "out.mp4", "--height", "300"], 2, "--chain RealESRGAN_Vid_x4,RealESRGAN_Vid_x4"),
        (["{tiny}", "out.mp4", "--height", "4000"], 2, "request at most 128, or omit it"),
        (["{tiny}", "out.mp4", "--lossless"], 2, "out.mkv"),
        (["{tiny}", "out.mp4", "--no-such-option"], 2, "--no-such-option"),
        (["{tiny}", "out.mp4", "--start", "nan"], 2, "--start must be seconds, such as 90.5, or [h:]m:s"),
        (["{tiny}", "out.mp4", "--start=-1"], 2, "got '-1'"),
        (["{tiny}", "out.mp4", "--start", "1:00"], 3, "ends before second 60: it lasts 0.5 s"),
        (["{tiny}", "out.mp4", "--duration", "0"], 2, "--duration must be longer than 0 s"),
        (["nothing*.mp4", "out"], 3, "no video or image matches"),
        (
            ["{tiny}", "other.mp4", "third.mp4", "out.mp4"],
            2,
            "3 inputs need a folder as the target, and out.mp4 is not one",
        ),
        (["{tiny}", "other.mp4", "-"], 2, "and - is not one"),
        (["-"], 2, "name a target for standard input: upres - out.mp4"),
        (["{tiny}", "--scale", "8"], 2, "--chain x4,x2 gives 8 times"),
        (["{tiny}", "--model", "x2", "--chain", "x2,x2"], 2, "exclude each other"),
        (["{tiny}", "nowhere/", "--crf", "99"], 2, "crf must lie in"),
        (["none.mp4", "nowhere.mp4", "new/"], 3, "nowhere.mp4: no such file"),
        (["strem", "{tiny}", "out.mp4"], 2, "No such command 'strem'. Did you mean 'stream'?"),
        (["status"], 2, "No such command 'status'."),
        (
            ["https://www.youtube.com/watch?v=a", "out.mp4"],
            3,
            "a page of YouTube, not a video; yt-dlp gets the video: yt-dlp",
        ),
        (["youtu.be/a"], 3, "is a page of YouTube"),
        (
            ["http://127.0.0.1:9/x.mp4?a=b", "out.mp4"],
            3,
            "x.mp4: cannot be reached ([Errno 111] Connection refused)",
        ),
        (["{tiny}", "a" * 260 + ".mp4"], 5, "File name too long"),
        (["{tiny}", "a" * 248 + ".mp4"], 5, "File name too long"),  # of what lies beside it while it grows
        (["a" * 260 + ".mp4", "out.mp4"], 3, "File name too long"),
        (["{tiny}", "a" * 260, "--skip-existing"], 5, "File name too long"),
        (["{tiny}", "a" * 260 + ".png", "--still", "0"], 5, "File name too long"),
        (["probe", "a" * 260 + ".mp4"], 3, "File name too long"),
        (["{tiny}", "out.mp4", "--container", "avi"], 2, "--container must be mp4, mov, mkv, webm, got 'avi'"),
        (["{tiny}", "look.png"], 5, "--still 0"),
        (["{tiny}", "nowhere/look.png", "--still", "0"], 5, "no folder nowhere"),
        (["{tiny}", "look.png", "--still", "4"], 3, "ends before second 4"),
        (["{tiny}", "look.png", "--still", "62"], 3, "ends before second 62"),
    ],
)
def test_what_cannot_be_done_ends_in_one_message_and_leaves_nothing(
    upres, tiny, tmp_path, monkeypatch, args, code, words
):
    monkeypatch.chdir(tmp_path)
    before = names(tmp_path)
    exit_code, _, err = upres(*(arg.format(tiny=tiny) for arg in args))
    assert exit_code == code
    assert words in " ".join(err.replace("│", " ").split())
    assert names(tmp_path) == before


def test_a_mistake_in_the_options_is_one_message_like_any_other(upres, tiny):
    code, out, err = upres(tiny, "--scael", "2")
    assert (code, out) == (2, "")
    assert err.splitlines()[0].startswith("upres: No such option: --scael")
    assert err.splitlines()[1:] == ["  for its options: upres run --help"]
