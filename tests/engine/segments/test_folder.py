"""The segment log: published fragments persist, in a folder and in memory, in any order of tracks."""

import json
from fractions import Fraction
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upres.engine.core.errors import LogError, TargetError
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.memory import MemoryLog
from upres.engine.segments.model import Fragment, Track

NAMES = ("video", "audio0", "audio1")


def track(name, init=b"init"):
    return Track(name, "h264", Fraction(1, 600), -5, init, "fra", 1)


pieces = st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=50), st.booleans(), st.booleans()), max_size=30)


def fill(log, entries):
    """Publish pieces, each of which may end its segment and may be followed by a note; return each track's fragments."""
    published = {name: [] for name in NAMES}
    for name, data, last, note in entries:
        log.add_track(track(name))
        number = len(log.fragments(name))
        published[name].append((log.append(Fragment(name, number, 0, number * 600, 600, 1, last=last), data), data))
        if note:
            log.note({"subtitle": number})
    return published


@given(pieces)
def test_memory_gives_back_what_was_published(entries):
    log = MemoryLog({})
    for name, kept in fill(log, entries).items():
        assert log.fragments(name) == [fragment for fragment, _ in kept]
        assert [log.read(fragment) for fragment in log.fragments(name)] == [data for _, data in kept]


@settings(max_examples=40, deadline=None)
@given(entries=pieces)
def test_a_folder_keeps_what_was_published_over_a_restart_and_cuts_off_what_was_not(tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("log")
    log = FolderLog(folder, {"a": 1})
    published = fill(log, entries)
    notes = log.extras
    for name in log.tracks:
        with log.path(name).open("ab") as file:
            file.write(b"never recorded")
    log.close()
    again = FolderLog(folder, {"a": 1})
    for name, kept in published.items():
        assert again.fragments(name) == [fragment for fragment, _ in kept]
        assert [again.read(fragment) for fragment in again.fragments(name)] == [data for _, data in kept]
        if kept:
            assert again.tracks[name] == track(name)
            assert again.path(name).read_bytes() == b"init" + b"".join(data for _, data in kept)
    assert again.extras == notes
    again.close()


@settings(max_examples=40, deadline=None)
@given(entries=pieces, torn=st.integers(0, 400))
def test_an_index_torn_anywhere_in_its_last_line_opens(tmp_path_factory, entries, torn):
    folder = tmp_path_factory.mktemp("log")
    log = FolderLog(folder, {})
    fill(log, entries)
    log.close()
    data = (folder / "index.jsonl").read_bytes()
    whole = data[: data.rfind(b"\n", 0, len(data) - 1) + 1]
    (folder / "index.jsonl").write_bytes(data[: max(len(whole), len(data) - torn)])
    again = FolderLog(folder, {})
    again.note({"after": True})
    again.close()
    assert all(json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines())


def opened(folder, **header):
    return FolderLog(folder, header)


def test_a_track_does_not_begin_twice_with_different_headers(tmp_path):
    for log in (MemoryLog({}), opened(tmp_path / "log")):
        log.add_track(track("video"))
        log.add_track(track("video"))
        with pytest.raises(LogError, match="has another header in the log"):
            log.add_track(track("video", b"other"))
        log.close()


def test_a_damaged_fragment_is_found_when_it_is_read(tmp_path):
    log = opened(tmp_path)
    log.add_track(track("video"))
    fragment = log.append(Fragment("video", 0, 0, 0, 600, 1), b"0123456789")
    data = bytearray(log.path("video").read_bytes())
    data[-1] ^= 1
    log.path("video").write_bytes(data)
    with pytest.raises(LogError, match="segment 0 of track video is damaged"):
        log.read(fragment)
    log.close()


def test_a_file_shorter_than_its_index_says_is_an_error_with_the_remedy(tmp_path):
    log = opened(tmp_path)
    log.add_track(track("video"))
    log.append(Fragment("video", 0, 0, 0, 600, 1), b"0123456789")
    log.close()
    log.path("video").write_bytes(b"init")
    with pytest.raises(LogError, match="shorter than its index says; delete"):
        opened(tmp_path)


@pytest.mark.parametrize("line", ["not json", '{"fragment": 1}', '{"fragment": {"track": "audio7"}}', '{"track": {}}'])
def test_a_damaged_index_is_an_error_with_the_remedy(tmp_path, line):
    opened(tmp_path).close()
    with (tmp_path / "index.jsonl").open("a") as index:
        index.write(f"{line}\n")
    with pytest.raises(LogError, match=r"index\.jsonl is damaged .*; delete"):
        opened(tmp_path)
    FolderLog.discard(tmp_path)


@pytest.mark.parametrize("line", ["[]", "1", "{}", '{"header": null}'])
def test_an_index_that_begins_with_no_header_is_an_error_with_the_remedy(tmp_path, line):
    opened(tmp_path).close()
    (tmp_path / "index.jsonl").write_text(f"{line}\n")
    with pytest.raises(LogError, match=r"another version of upres .*delete it and start again"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["../video", "/tmp/video", "", "video.mp4", "a" * 40])
def test_a_track_cannot_name_a_file_elsewhere(name):
    with pytest.raises(LogError, match="invalid track name"):
        track(name)


def test_settings_that_differ_are_all_named(tmp_path):
    opened(tmp_path, crf=18, preset="fast").close()
    with pytest.raises(LogError, match="crf was 18, is 20, preset was fast, is slow"):
        opened(tmp_path, crf=20, preset="slow")


@pytest.mark.parametrize("header", ['"version": 2, "crf": 18', '"crf": 18', '"version": 99'])
def test_a_log_that_another_version_began_is_refused_in_a_sentence_and_stays(tmp_path, header):
    (tmp_path / "index.jsonl").write_text(f'{{"header": {{{header}}}}}\n')
    with pytest.raises(LogError, match=r"was started by another version of upres .*; delete it and start again$"):
        opened(tmp_path, crf=18)
    assert header in (tmp_path / "index.jsonl").read_text()


def test_one_writer_at_a_time(tmp_path):
    log = opened(tmp_path)
    with pytest.raises(LogError, match="another upres is writing this log"):
        opened(tmp_path)
    log.close()
    log.close()
    opened(tmp_path).close()


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match="cannot be created"):
        opened(tmp_path / "file" / "log")


def test_counting_segments_changes_nothing_while_another_process_writes(tmp_path):
    log = opened(tmp_path)
    log.add_track(track("video"))
    log.append(Fragment("video", 0, 0, 0, 600, 1), b"0123456789")
    with (tmp_path / "index.jsonl").open("ab") as index:
        index.write(b'{"fragment": {"half')  # the result of an unfinished write
    before = (tmp_path / "index.jsonl").read_bytes()
    assert FolderLog.segments(tmp_path) == 1
    assert (tmp_path / "index.jsonl").read_bytes() == before
    log.close()


def test_a_log_that_another_thread_closed_is_unlocked(tmp_path):
    log = opened(tmp_path)
    closing = Thread(target=log.close)
    closing.start()
    closing.join()
    opened(tmp_path).close()


def test_a_damaged_log_can_be_discarded(tmp_path):
    opened(tmp_path / "log").close()
    (tmp_path / "log" / "index.jsonl").write_text("not json\n")
    FolderLog.discard(tmp_path / "log")
    assert not (tmp_path / "log").exists()
