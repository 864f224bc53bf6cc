"""The command line as people use it: real models on a small real clip, in this process, through `main`."""

import io
import json
import os
import re
import subprocess
import sys

import av
import media
import numpy as np
import prepared
import pytest
from paths import SAMPLE
from PIL import Image
from web_files import WebFiles

from upres.engine.decode.filters import PREFILTERS
from upres.engine.pipeline.target import log_folder
from upres.service.cli.main import main

SHORT = ["--duration", "0.2"]


@pytest.fixture
def upres(monkeypatch, capfd):
    """Run the command line; return exit code, stdout and stderr."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["upres", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def tiny(tmp_path):
    """Make a clip of twelve 48x32 frames with uneven times and no sound."""
    path = tmp_path / "tiny.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, width=48, height=32, pix_fmt="yuv420p", options={"qp": "0"})
        picture = np.random.default_rng(1).integers(0, 255, (8, 12, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        for number in range(12):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, number, 1), format="rgb24")))
        output.mux(stream.encode(None))
    return path


def names(folder):
    return {path.name for path in folder.iterdir()}


def size_and_frames(path):
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    return frames[0].width, frames[0].height, len(frames)


def test_one_clip_with_sound(upres, tmp_path):
    out = tmp_path / "out.mp4"
    code, _, said = upres(SAMPLE, out, *SHORT)
    assert code == 0
    assert size_and_frames(out) == (1280, 720, 5)
    assert "1280x720, 5 frames, about" in said
    assert "5 frames in, 5 out" in said
    assert names(tmp_path) == {"out.mp4"}


def test_a_frame_goes_into_a_pipe_as_png(tiny):
    command = [sys.executable, "-m", "upres", tiny, "-", "--still", "0.2", "--model", "realesr-live-x2"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert (image.format, image.size) == ("PNG", (96, 64))


def test_a_file_on_the_web_is_upscaled_as_one_on_the_disk(upres, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with WebFiles({"some clip.mp4": tiny.read_bytes()}) as server:
        address = server.url("some%20clip.mp4?key=1")
        assert "48x32" in upres("probe", address)[1]
        code, _, said = upres(address, "--duration", "0.1", "--model", "x2")
    assert code == 0 and "some clip_x2.mp4" in said, said
    assert (tmp_path / "some clip_x2.mp4").stat().st_size


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--model", "RealESRGAN_Vid_x2"], (96, 64)),
        (["--model", "realesr-animevideov3-x4", "--quality", "exact", "--runtime", "onnxruntime"], (192, 128)),
        (["--chain", "RealESRGAN_Vid_x2,RealESRGAN_Vid_x2"], (192, 128)),
        (["--height", "100"], (150, 100)),
        (["--prefilter", "denoise", "--prefilter", "deblock", "--split"], (192, 128)),
        (["--codec", "hevc", "--preset", "ultrafast"], (192, 128)),
    ],
)
def test_options(upres, tiny, tmp_path, options, size):
    out = tmp_path / "out.mp4"
    code, _, said = upres(tiny, out, *options)
    assert code == 0, said
    assert size_and_frames(out) == (*size, 12)
    assert ("x4 is the better choice" in said) == ("--chain" in options)


def test_json_tells_the_same_as_one_object_a_line(upres, tiny, tmp_path):
    code, out, _ = upres(tiny, tmp_path / "out.mp4", "--json", "--scale", "4", "--quality", "exact")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["event"] for event in events] == ["predicted", "done"]
    assert (events[0]["width"], events[0]["height"], events[0]["frames"]) == (192, 128, 12)
    assert (events[1]["frames_in"], events[1]["frames_out"]) == (12, 12)


def test_a_part_is_cut_out_with_times_as_players_show_them(upres, tiny, tmp_path):
    out = tmp_path / "out.mp4"
    code, _, said = upres(tiny, out, "--start", "0:00:00.12", "--duration", "0:0.04", "--model", "RealESRGAN_Vid_x2")
    assert code == 0
    assert "96x64, 1 frame, about" in said
    assert "1 frame in, 1 out" in said
    assert size_and_frames(out) == (96, 64, 1)


def test_nothing_is_predicted_of_a_part_that_is_not_there(upres, tiny, tmp_path):
    assert "about" not in upres(tiny, tmp_path / "out.mp4", "--start", "60")[2]


def test_a_still_is_the_frame_that_is_shown_then_and_may_stand_beside_its_source(upres, tiny, tmp_path):
    frame, both = tmp_path / "frame.png", tmp_path / "both.png"
    assert upres(tiny, frame, "--still", "0.2")[0] == 0 == upres(tiny, both, "--still", "0.2", "--compare")[0]
    assert size_and_frames(frame)[:2] == (192, 128)
    upscaled, pair = (np.asarray(Image.open(io.BytesIO(path.read_bytes()))) for path in (frame, both))
    assert (pair[:, 192:] == upscaled).all()
    with av.open(str(tiny)) as source:
        shown = list(source.decode(video=0))[5].reformat(192, 128, "rgb24", interpolation="BICUBIC").to_ndarray()
    assert np.abs(pair[:, :192].astype(int) - shown).mean() < 4


def test_a_folder_goes_into_a_folder_and_what_exists_can_be_skipped(upres, tiny, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    tiny.rename(inputs / "a.mp4")
    (inputs / "b.mp4").write_bytes(b"this is no video")
    (inputs / "notes.txt").write_text("not looked at")
    code, _, said = upres(inputs, outputs)
    assert code == 3
    assert "b.mp4: " in said
    assert names(outputs) == {"a.mp4"}
    code, _, said = upres(inputs, outputs)
    assert code == 5 and "--skip-existing skips inputs whose target exists" in said and "to upscale both" not in said
    code, _, said = upres(inputs / "a.mp4", outputs, "--skip-existing")
    assert code == 0
    assert "a.mp4: exists, skipped" in said
    code, _, said = upres(inputs, outputs, "--skip-existing")
    assert code == 3
    assert "b.mp4: " in said
    assert said.splitlines()[-1].startswith("0 done, 1 skipped, 1 failed, in ")
    assert "2 of 2: " in said


def test_folders_inside_a_folder_are_told(upres, tiny, tmp_path):
    for name in ("in", "in/one", "in/two", "in/a.mp4.upres", "in/.hidden"):
        (tmp_path / name).mkdir()
    tiny.rename(tmp_path / "in" / "one" / "a.mp4")
    code, _, said = upres(tmp_path / "in", tmp_path / "out")
    assert code == 3
    assert f"not searched: 2 folders in {tmp_path / 'in'}; '{tmp_path / 'in'}/**/*.*' includes them" in said
    (tmp_path / "in" / "b.mp4").write_bytes((tmp_path / "in" / "one" / "a.mp4").read_bytes())
    code, _, said = upres(tmp_path / "in", tmp_path / "out", "--model", "RealESRGAN_Vid_x2")
    assert code == 0
    assert "note: not searched: 2 folders in" in said
    code, _, said = upres(f"{tmp_path / 'in'}/**/*.*", tmp_path / "out", "--skip-existing", "--overwrite")
    assert "1 done, 1 skipped, 0 failed" in said
    assert names(tmp_path / "out") == {"a.mp4", "b.mp4"}


def test_inputs_of_one_name_do_not_meet_in_one_output(upres, tiny, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "a.avi").write_bytes(tiny.read_bytes())
    tiny.rename(inputs / "a.mp4")
    assert upres(inputs, tmp_path / "out", "--model", "RealESRGAN_Vid_x2")[0] == 0
    assert names(tmp_path / "out") == {"a.avi.mp4", "a.mp4.mp4"}


def test_a_folder_that_is_no_log_is_left_alone(upres, tiny, tmp_path):
    (tmp_path / "out.mp4.upres").mkdir()
    (tmp_path / "out.mp4.upres" / "mine.txt").write_text("mine")
    code, _, said = upres(tiny, tmp_path / "out.mp4", "--overwrite")
    assert code == 6
    assert "it holds no log; move it, or choose another output" in said
    assert (tmp_path / "out.mp4.upres" / "mine.txt").read_text() == "mine"


def test_lossless_goes_into_mkv(upres, tiny, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    tiny.rename(inputs / "a.mp4")
    assert upres(inputs, tmp_path / "out", "--lossless", "--model", "RealESRGAN_Vid_x2")[0] == 0
    assert size_and_frames(tmp_path / "out" / "a.mkv") == (96, 64, 12)


def test_the_log_and_the_result_do_not_share_stdout(tiny):
    result = prepared.upres(tiny, "-", "--json", "--scale", 4, "--quality", "exact")
    assert result.stdout[:4] == b"\x1aE\xdf\xa3"
    assert [json.loads(line)["event"] for line in result.stderr.splitlines()] == ["predicted", "done"]


def test_an_image_goes_through_pipes(tmp_path):
    picture = media.clip(tmp_path / "in.png", "-frames:v", 1, picture="testsrc2=size=48x32")
    done = prepared.upres(picture, "-", "--scale", 2)
    assert done.returncode == 0 and b"stdout: 96x64" in done.stderr, done.stderr
    assert Image.open(io.BytesIO(done.stdout)).format == "PNG"
    with subprocess.Popen(["cat", picture], stdout=subprocess.PIPE) as pipe:
        done = prepared.upres("-", tmp_path / "out.png", "--scale", 2, stdin=pipe.stdout)
    assert done.returncode == 0 and Image.open(io.BytesIO((tmp_path / "out.png").read_bytes())).size == (96, 64)


def test_images_through_a_pipe_are_not_called_one_image(tmp_path):
    picture = media.clip(tmp_path / "in.png", "-frames:v", 1, picture="testsrc2=size=48x32")
    (tmp_path / "several").write_bytes(2 * picture.read_bytes())
    with subprocess.Popen(["cat", tmp_path / "several"], stdout=subprocess.PIPE) as pipe:
        done = prepared.upres("-", tmp_path / "out.mp4", "--scale", 2, stdin=pipe.stdout)
    assert done.returncode == 0 and b"2 frames in, 2 out" in done.stderr and b"is an image" not in done.stderr, (
        done.stderr
    )


def test_a_pipe_by_its_name_is_refused_with_how_pipes_are_read(upres, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, _, said = upres(tmp_path / "pipe", tmp_path / "out.mp4")
    assert code == 3 and "is a pipe, and pipes are read through standard input: cat in.mp4 | upres - out.mp4" in said


def test_what_is_there_and_no_folder_is_not_advised_as_one(upres, tiny):
    code, _, said = upres(tiny, "/dev/null")
    assert code == 5 and "the name must end in .mp4" in said and "a folder" not in said


def test_a_still_does_not_replace_its_own_source(upres, tmp_path):
    picture = media.clip(tmp_path / "pic.png", "-frames:v", 1)
    before = picture.read_bytes()
    code, _, said = upres(picture, picture, "--still", "0", "--overwrite")
    assert code == 5
    assert "is the input itself" in said
    assert picture.read_bytes() == before


@pytest.mark.parametrize(
    ("suffix", "said"), [(".mp4", "192x128, 12 frames, about "), (".ts", "192x128, length unknown, ")]
)
def test_stdin_to_stdout(tiny, suffix, said):
    source = tiny.with_name(f"piped{suffix}")
    media.ffmpeg("-i", tiny, "-c", "copy", source)
    # cat, so that it is a pipe: a file on stdin could be read to and fro
    with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as pipe:
        result = prepared.upres("-", "-", "--scale", 4, "--quality", "exact", stdin=pipe.stdout)
    assert result.returncode == 0, result.stderr
    assert result.stdout[:4] == b"\x1aE\xdf\xa3"  # EBML: Matroska
    first = next(line for line in result.stderr.decode().splitlines() if not line.startswith("note: "))
    assert first.startswith(f"stdin -> stdout: {said}")
    assert "memory" in first
    assert "disk" in first


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
    got, _, said = upres(*(arg.format(tiny=tiny) for arg in args))
    assert got == code
    assert words in " ".join(said.replace("│", " ").split())
    assert names(tmp_path) == before


INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
from upres.service.cli.main import main

def watch(index):
    while not (index.exists() and b'"track": "video", "segment": 1' in index.read_bytes()):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=watch, args=[Path(sys.argv.pop(1))], daemon=True).start()
main()
"""


def test_an_interrupted_run_is_resumed_to_the_same_bytes(upres, tmp_path):
    """Interrupt from inside once the second segment is written, so that most of the work is left on any machine."""
    picture = "testsrc2=size=64x48:rate=10:duration=4"
    clip, target = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture=picture), tmp_path / "out.mp4"
    options = ["--segment", "0.2", "--model", "RealESRGAN_Vid_x2"]
    command = [sys.executable, "-c", INTERRUPTED, log_folder(target) / "index.jsonl", clip, target, *options]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 130
    assert b"--resume" in done.stderr
    assert not target.exists()
    assert upres(clip, target, *options, "--resume")[0] == 0
    assert upres(clip, tmp_path / "whole.mp4", *options)[0] == 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_word_that_is_a_file_is_an_input(upres, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.rename("clip")
    assert upres("clip", "out.mp4", "--model", "RealESRGAN_Vid_x2")[0] == 0


def test_an_interlaced_source_is_told_once_unless_something_is_done_about_it(upres, tmp_path):
    old = media.clip(
        tmp_path / "old.mpg",
        "-r",
        25,
        "-c:v",
        "mpeg2video",
        "-flags",
        "+ildct+ilme",
        "-vf",
        "tinterlace=4,setfield=tff",
    )
    few = ["--model", "RealESRGAN_Vid_x2", "--duration", "0.3"]
    assert upres(old, tmp_path / "a.mp4", *few)[2].count("the source is interlaced") == 1
    said = upres(old, tmp_path / "b.mp4", *few, "--prefilter", "deinterlace-fields")[2]
    assert "is interlaced" not in said
    assert "128x96, 16 frames, about" in said  # each of the 8 is two


@pytest.mark.parametrize(("runtime", "name"), [("onnxruntime", "ONNX Runtime"), ("ncnn", "ncnn")])
def test_why_high_is_exact(upres, tiny, tmp_path, runtime, name):
    _, _, said = upres(tiny, tmp_path / "out.mp4", "--runtime", runtime)
    assert f"note: this runtime computes in float32 only, so high is exact ({name} " in said
    assert (
        "so high is exact"
        not in upres(tiny, tmp_path / "exact.mp4", "--runtime", "onnxruntime", "--quality", "exact")[2]
    )


def test_probe_says_that_a_source_is_hdr_and_what_is_unknown(upres, tmp_path):
    hdr = media.clip(
        tmp_path / "hdr.mkv", "-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le",
        *media.tagged("bt2020nc", "bt2020", "smpte2084"),
    )  # fmt: skip
    code, said, _ = upres("probe", hdr)
    assert code == 0
    assert re.search(r"hdr +yes; it is kept, or converted to SDR with --tonemap", said)
    assert re.search(r"frames +unknown", said)
    assert re.search(r"noise +[\d.]+ \((none|little|much)\)", said)
    assert "high dynamic range: " in said.partition("- ")[2]
    assert "None" not in said


def test_help_begins_with_what_upres_is_for(upres, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = upres("--help")[1]
    assert said.split()[:7] == ["Usage:", "upres", "IN", "[OUT]", "[OPTIONS]", "|", "COMMAND"]
    shown = said.partition("Options")[0]
    assert all(option in shown for option in ("--model", "--duration", "--resume", "upres run --help"))
    options = re.sub(r"[│\s]+", " ", upres("run", "--help")[1])
    assert ", ".join(PREFILTERS) in options


def test_probe_models_doctor_and_licenses(upres):
    code, out, _ = upres("probe", SAMPLE, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["audio"] == "aac"
    assert facts["video"] == {"codec": "h264", "width": 320, "height": 180, "pixel_format": "yuv420p", "fps": 25.0}
    assert facts["hdr"] is False
    assert [rule["rule"] for rule in facts["advice"]] == ["small", "grade"]
    assert "RealESRGAN_Vid_x4" in upres("models")[1]
    assert "all requirements of upres are met" in upres("doctor")[1]
    assert "BSD 3-Clause" in upres("licenses")[1]


def test_one_name_is_enough_and_the_height_decides(upres, tiny, tmp_path):
    code, _, said = upres(tiny)
    assert code == 0
    assert "32p: upscaled 4 times by RealESRGAN_Vid_x4; --scale 2" in said
    assert size_and_frames(tmp_path / "tiny_x4.mp4") == (192, 128, 12)
    assert f"{tiny} -> {tmp_path / 'tiny_x4.mp4'}: 192x128, 12 frames" in said
    code, _, said = upres("-i", tiny, "-s", "3", "-q")
    assert (code, said) == (0, "")
    assert size_and_frames(tmp_path / "tiny_x3.mp4") == (144, 96, 12)


def test_540p_is_upscaled_twice_unless_asked_otherwise(upres, tmp_path):
    clip = media.clip(tmp_path / "a.mp4", "-frames:v", 2, picture="color=gray:size=960x540:rate=5")
    code, _, said = upres(clip, "--dry-run")
    assert code == 0
    assert "540p: upscaled 2 times by RealESRGAN_Vid_x2; --scale 4" in said
    assert f"{clip} -> {tmp_path / 'a_x2.mp4'}: 1920x1080, 2 frames" in said
    assert names(tmp_path) == {"a.mp4"}


def test_several_names_go_into_a_folder_that_is_made(upres, tiny, tmp_path):
    other = tiny.with_name("other.mkv")
    other.write_bytes(tiny.read_bytes())
    code, _, said = upres(tiny, other, f"{tmp_path}/new/", "-s", "2", "--codec", "h265", "-v")
    assert code == 0
    assert names(tmp_path / "new") == {"tiny.mp4", "other.mkv"}
    assert "1 of 2: " in said and "2 of 2: " in said and "infer" in said
    assert said.splitlines()[-1].startswith("2 done, 0 failed, in ")
    with av.open(str(tmp_path / "new" / "tiny.mp4")) as file:
        assert file.streams.video[0].codec_context.name == "hevc"


def test_a_mistake_in_the_options_is_one_message_like_any_other(upres, tiny):
    code, out, said = upres(tiny, "--scael", "2")
    assert (code, out) == (2, "")
    assert said.splitlines()[0].startswith("upres: No such option: --scael")
    assert said.splitlines()[1:] == ["  for its options: upres run --help"]
