"""The same mistake has the same exit code in every command, and with --json is reported as one object."""

import json
import subprocess
import sys
import uuid

import pytest
from serving import KEY, ServerProcess

from upres.engine.tuning import trial

NO_SERVER = "--server", "127.0.0.1:1", "--key", "k"
MISTAKES = [
    (3, "nowhere.mp4: no such file", ["nowhere.mp4", "out.mp4"], ["probe", "nowhere.mp4"], ["live", "nowhere.mp4", "--to", "a.mkv"],
        ["submit", "nowhere.mp4", *NO_SERVER], ["stream", "nowhere.mp4", "out.mp4", *NO_SERVER]),
    (3, ".: is not a file", ["probe", "."], ["live", ".", "--to", "a.mkv"], ["submit", ".", *NO_SERVER],
        ["stream", ".", "out.mp4", *NO_SERVER]),
    (3, "empty.mp4: the file is empty", ["empty.mp4", "out.mp4"], ["probe", "empty.mp4"], ["live", "empty.mp4", "--to", "a.mkv"],
        ["submit", "empty.mp4", *NO_SERVER], ["stream", "empty.mp4", "out.mp4", *NO_SERVER]),
    (4, "unknown model 'x9'", ["{tiny}", "out.mp4", "--model", "x9"], ["live", "{tiny}", "--to", "a.mkv", "--model", "x9"],
        ["tune", "--size", "16x16", "--model", "x9"]),
    (2, "--content must be one of auto, photo", ["{tiny}", "out.mp4", "--content", "x"], ["probe", "{tiny}", "--content", "x"],
        ["tune", "--size", "16x16", "--content", "x"], ["live", "{tiny}", "--to", "a.mkv", "--content", "x"]),
    (5, "there is no folder new", ["{tiny}", "new/a.mp4"], ["live", "{tiny}", "--to", "new/a.mp4"],
        ["get", "a", "new/a.mp4", *NO_SERVER], ["stream", "{tiny}", "new/a.mp4", *NO_SERVER]),
    (2, "an API key is needed", ["jobs"], ["submit", "{tiny}"], ["stream", "{tiny}", "out.mp4"], ["watch", "a"], ["cancel", "a"]),
]  # fmt: skip
WITH_JSON = [
    (["nowhere.mp4", "out.mp4"], 3),
    (["{tiny}", "out.mp4", "--crf", "many"], 2),  # refused by the parser, before the command runs
    (["{tiny}", "out.mp4", "--scael", "2"], 2),
    (["probe", "nowhere.mp4"], 3),
    (["probe"], 2),
    (["models", "--all"], 2),
    (["doctor", "--all"], 2),
    (["tune", "--size", "wide"], 2),
    (["tune", "--size", "16x16", "--model", "x9"], 4),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state") as process:
        yield process


@pytest.mark.parametrize(("code", "words", "commands"), [(code, words, rest) for code, words, *rest in MISTAKES])
def test_a_mistake_has_the_same_code_and_message_in_every_command(
    upres, tiny, tmp_path, monkeypatch, code, words, commands
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.mp4").touch()
    for command in commands:
        ended = upres(*(arg.format(tiny=tiny) for arg in command))
        assert (ended[0], words in ended[2]) == (code, True), (command, ended)


def test_what_a_server_refuses_has_the_code_of_the_same_mistake_without_one(server, upres, tiny, tmp_path):
    there = "--server", server.target, "--key", KEY
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    refused = {
        3: ([text], [tiny.parent / "in.mp4"]),
        4: ([tiny, "--model", "x9"], [tiny, "--chain", "x4,x9"]),
        2: ([tiny, "--prefilter", "shine"],),
    }
    for code, every in refused.items():
        for words in every:
            assert upres("submit", *words, *there)[0] == code, words
            assert upres("stream", words[0], tmp_path / "out.mp4", *words[1:], *there)[0] == code, words
    for command in (["watch"], ["get"], ["cancel"], ["stream"]):
        for name in ("abc", str(uuid.uuid4())):
            target = [tmp_path / "out.mp4"] if command[0] in ("get", "stream") else []
            job = f"job:{name}" if command == ["stream"] else name
            assert upres(*command, job, *target, *there)[0] == 7, (command, name)
    code, _, err = upres("submit", tiny, "--server", server.target, "--key", "wrong")
    assert code == 7 and "does not know this key" in err and "cannot be reached" not in err


def test_keys_and_servers_that_cannot_be_used_end_as_those_of_a_server(upres, tmp_path, monkeypatch):
    monkeypatch.setenv("UPRES_STATE", str(tmp_path / "state"))
    assert upres("keys", "add", "mine")[0] == 0
    assert upres("keys", "add", "mine")[0] == upres("keys", "revoke", "yours")[0] == 7
    (tmp_path / "file").touch()
    monkeypatch.setenv("UPRES_STATE", str(tmp_path / "file" / "state"))
    code, _, err = upres("keys", "list")
    assert code == 7 and err.startswith(f"upres: the state folder {tmp_path}/file/state cannot be created")


@pytest.mark.parametrize(("words", "code"), WITH_JSON, ids=str)
def test_with_json_a_failure_is_one_object_and_nothing_else(upres, tiny, tmp_path, monkeypatch, words, code):
    monkeypatch.chdir(tmp_path)
    ended, out, err = upres(*(word.format(tiny=tiny) for word in words), "--json")
    failure = json.loads(out)
    assert (ended, err) == (code, "") and failure["event"] == "failed" and failure["exit_code"] == code
    assert failure["text"] and isinstance(failure["notes"], list)


def test_with_json_a_failure_is_on_stderr_if_the_result_goes_to_stdout(upres, tiny):
    for words in (["nowhere.mp4", "-"], [tiny, "-", "--crf", "many"]):
        code, out, err = upres(*words, "--json")
        assert out == "" and json.loads(err)["exit_code"] == code
    assert json.loads(upres("-", "out.mp4", "--crf", "many", "--json")[1])["exit_code"] == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_a_target_that_cannot_be_written():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "upres", "models"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert done.returncode == 5
    assert done.stderr == "upres: standard output: cannot be written (No space left on device; make room there)\n"


def test_ctrl_c_is_reported_by_every_command(upres, monkeypatch):
    def interrupted(tried):
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "run", interrupted)
    assert upres("tune", "--size", "16x16") == (130, "", "upres: interrupted\n")
    code, out, err = upres("tune", "--size", "16x16", "--json")
    assert (code, err) == (130, "")
    assert json.loads(out) == {"text": "interrupted", "event": "failed", "exit_code": 130, "notes": []}
