"""Inputs and targets of the command line: folders, patterns, several names, and default names."""

import av
import media
from written import names, size_and_frames


def test_a_folder_goes_into_a_folder_and_what_exists_can_be_skipped(upres, tiny, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    tiny.rename(inputs / "a.mp4")
    (inputs / "b.mp4").write_bytes(b"this is no video")
    (inputs / "notes.txt").write_text("not looked at")
    code, _, err = upres(inputs, outputs)
    assert code == 3
    assert "b.mp4: " in err
    assert names(outputs) == {"a.mp4"}
    code, _, err = upres(inputs, outputs)
    assert code == 5 and "--skip-existing skips inputs whose target exists" in err and "to upscale both" not in err
    code, _, err = upres(inputs / "a.mp4", outputs, "--skip-existing")
    assert code == 0
    assert "a.mp4: exists, skipped" in err
    code, _, err = upres(inputs, outputs, "--skip-existing")
    assert code == 3
    assert "b.mp4: " in err
    assert err.splitlines()[-1].startswith("0 done, 1 skipped, 1 failed, in ")
    assert "2 of 2: " in err


def test_folders_inside_a_folder_are_told(upres, tiny, tmp_path):
    for name in ("in", "in/one", "in/two", "in/a.mp4.upres", "in/.hidden"):
        (tmp_path / name).mkdir()
    tiny.rename(tmp_path / "in" / "one" / "a.mp4")
    code, _, err = upres(tmp_path / "in", tmp_path / "out")
    assert code == 3
    assert f"not searched: 2 folders in {tmp_path / 'in'}; '{tmp_path / 'in'}/**/*.*' includes them" in err
    (tmp_path / "in" / "b.mp4").write_bytes((tmp_path / "in" / "one" / "a.mp4").read_bytes())
    code, _, err = upres(tmp_path / "in", tmp_path / "out", "--model", "RealESRGAN_Vid_x2")
    assert code == 0
    assert "note: not searched: 2 folders in" in err
    code, _, err = upres(f"{tmp_path / 'in'}/**/*.*", tmp_path / "out", "--skip-existing", "--overwrite")
    assert "1 done, 1 skipped, 0 failed" in err
    assert names(tmp_path / "out") == {"a.mp4", "b.mp4"}


def test_inputs_of_one_name_do_not_meet_in_one_output(upres, tiny, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "a.avi").write_bytes(tiny.read_bytes())
    tiny.rename(inputs / "a.mp4")
    assert upres(inputs, tmp_path / "out", "--model", "RealESRGAN_Vid_x2")[0] == 0
    assert names(tmp_path / "out") == {"a.avi.mp4", "a.mp4.mp4"}


def test_a_word_that_is_a_file_is_an_input(upres, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.rename("clip")
    assert upres("clip", "out.mp4", "--model", "RealESRGAN_Vid_x2")[0] == 0


def test_one_name_is_enough_and_the_height_decides(upres, tiny, tmp_path):
    code, _, err = upres(tiny)
    assert code == 0
    assert "32p: upscaled 4 times by RealESRGAN_Vid_x4; --scale 2" in err
    assert size_and_frames(tmp_path / "tiny_x4.mp4") == (192, 128, 12)
    assert f"{tiny} -> {tmp_path / 'tiny_x4.mp4'}: 192x128, 12 frames" in err
    code, _, err = upres("-i", tiny, "-s", "3", "-q")
    assert (code, err) == (0, "")
    assert size_and_frames(tmp_path / "tiny_x3.mp4") == (144, 96, 12)


def test_540p_is_upscaled_twice_unless_asked_otherwise(upres, tmp_path):
    clip = media.clip(tmp_path / "a.mp4", "-frames:v", 2, picture="color=gray:size=960x540:rate=5")
    code, _, err = upres(clip, "--dry-run")
    assert code == 0
    assert "540p: upscaled 2 times by RealESRGAN_Vid_x2; --scale 4" in err
    assert f"{clip} -> {tmp_path / 'a_x2.mp4'}: 1920x1080, 2 frames" in err
    assert names(tmp_path) == {"a.mp4"}


def test_several_names_go_into_a_folder_that_is_made(upres, tiny, tmp_path):
    other = tiny.with_name("other.mkv")
    other.write_bytes(tiny.read_bytes())
    code, _, err = upres(tiny, other, f"{tmp_path}/new/", "-s", "2", "--codec", "h265", "-v")
    assert code == 0
    assert names(tmp_path / "new") == {"tiny.mp4", "other.mkv"}
    assert "1 of 2: " in err and "2 of 2: " in err and "infer" in err
    assert err.splitlines()[-1].startswith("2 done, 0 failed, in ")
    with av.open(str(tmp_path / "new" / "tiny.mp4")) as file:
        assert file.streams.video[0].codec_context.name == "hevc"
