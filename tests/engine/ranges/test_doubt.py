"""Doubtful ranges are not used: the result is that of one device, and nothing doubtful is published."""

from fractions import Fraction

import av
import media
import pytest
from fake import Nearest, job
from split import GOPS, PICTURE, damaged, processed, ranges

from upres.engine.core.errors import Interrupted, LogError
from upres.engine.decode.cut import Cut, Span
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.progress import Progress
from upres.engine.ranges import maker, merger
from upres.engine.ranges.folder import Ranges
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.memory import MemoryLog


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.mark.parametrize("number", range(1, 6))
def test_a_source_whose_picture_is_damaged_is_made_alone_from_there_on(tmp_path, number):
    clip = damaged(tmp_path / "in.mkv", number)
    alone, was = processed(clip, tmp_path / "1")
    together, progress = processed(clip, tmp_path / "2", (Nearest(),))
    assert together == alone
    assert progress.repairs == was.repairs and was.repairs.concealed
    assert "the source is damaged there" in progress.warnings[0] and ranges(tmp_path / "2") == 1


class Ends(BaseException):
    """Exit the process abruptly."""


def test_what_is_in_doubt_was_not_published_and_a_resumed_run_makes_it_alone(tmp_path, monkeypatch):
    clip, folder = damaged(tmp_path / "in.mkv", 4), tmp_path / "2"
    alone, _ = processed(clip, tmp_path / "1")

    def dies(*_args, **_settings):
        raise Ends

    with monkeypatch.context() as patch, pytest.raises(Ends):
        patch.setattr("upres.engine.ranges.run.run", dies)
        processed(clip, folder, (Nearest(),))
    assert 0 < FolderLog.segments(folder) <= 4  # second 2.4 is damaged
    assert processed(clip, folder, (Nearest(),))[0] == alone
    assert processed(clip, folder)[0] == alone


def late_sound(path, seconds):
    """Return a clip whose audio is interleaved this many seconds after its video, with keyframes at 0 and 0.8 s only."""
    keys = ("-c:v", "libx264", "-g", "250", "-bf", "3", "-x264-params", "scenecut=0", "-force_key_frames", "0,0.8")
    picture = "testsrc2=size=64x48:rate=10:duration=6"
    clip = media.clip(path.with_suffix(".mp4"), *keys, "-c:a", "aac", picture=picture, sound="sine=duration=6")

    def place(packet):
        return packet.dts * packet.time_base + seconds * (packet.stream.type == "audio")

    with av.open(str(clip)) as source, av.open(str(path), "w", options={"max_interleave_delta": "1"}) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        packets = [packet for packet in source.demux() if packet.dts is not None]
        target.start_encoding()
        for packet in sorted(packets, key=place):
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    return path


@pytest.mark.parametrize("seconds", [0.6, 1.5])
@pytest.mark.parametrize("cut", [Cut(), Cut(Fraction(0), Fraction(4))])
def test_sound_that_lies_far_behind_its_picture_moves_nothing_and_is_whole(tmp_path, seconds, cut):
    clip = late_sound(tmp_path / "in.mkv", seconds)
    settings = {"cut": cut, "encoder": Encoder(segment_seconds=2, preset="ultrafast")}
    alone, was = processed(clip, tmp_path / "1", **settings)
    together, progress = processed(clip, tmp_path / "2", (Nearest(),), **settings)
    assert together == alone
    assert ranges(tmp_path / "2") >= 2 and not was.repairs and not progress.warnings
    _, tracks, _, fragments, _ = alone
    audible = sum(fragment.duration for fragment in fragments["audio0"]) * tracks["audio0"].time_base
    assert audible >= (cut.duration or 6) - Fraction(1, 10)


def test_devices_that_were_lost_say_nothing_of_the_source(tmp_path, monkeypatch):
    clip = media.clip(tmp_path / "in.mkv", *GOPS, picture=PICTURE)
    alone, _ = processed(clip, tmp_path / "1")

    def fails(*_args, **_settings):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("upres.engine.ranges.devices.make_range", fails)
        together, progress = processed(clip, tmp_path / "2", (Nearest(),))
    assert together == alone
    assert progress.warnings == ["one device works on it, not 2: some of its ranges could not be made (out of memory)"]
    assert ranges(tmp_path / "2") > 1


def test_what_is_in_the_log_is_not_made_by_ranges_as_well(tmp_path):
    clip, folder = media.clip(tmp_path / "in.mkv", *GOPS, picture=PICTURE), tmp_path / "2"
    alone, _ = processed(clip, tmp_path / "1")

    def stop():
        if FolderLog.segments(folder) >= 6:
            raise Ends

    folder.mkdir()
    with pytest.raises(Ends):
        processed(clip, folder, tick=stop)
    first, second = Nearest(), Nearest()
    together, progress = processed(clip, folder, (second,), model=first)
    pushed = sum(sum(session.flushed) for model in (first, second) for session in model.opened)
    assert together == alone and progress.frames_resumed >= 30
    assert pushed == 40 - progress.frames_resumed


@pytest.mark.parametrize(
    "note", [{"made": 3}, {"made": {"ends": None, "warnings": [], "seconds": []}}, {"begins": [0, 1]}]
)
def test_notes_that_are_none_make_it_one_range(tmp_path, monkeypatch, note):
    clip = media.clip(tmp_path / "in.mkv", *GOPS, picture=PICTURE)
    alone, _ = processed(clip, tmp_path / "1")
    make = maker._make

    def noted(reader, job, log, *rest):
        log.note(note)
        make(reader, job, log, *rest)

    monkeypatch.setattr(maker, "_make", noted)
    together, progress = processed(clip, tmp_path / "2", (Nearest(),))
    assert together == alone and "one device works on it" in progress.warnings[0]


def test_a_range_that_is_not_wanted_any_more_ends_with_the_next_frame_that_is_decoded(tmp_path):
    clip = media.clip(tmp_path / "in.mkv", *GOPS, picture=PICTURE)
    model, log = Nearest(), MemoryLog({})

    def stop():
        raise Interrupted("stopped")

    with Reader(clip) as reader, pytest.raises(Interrupted):
        range_job = job(tmp_path / "out.mkv", model)
        maker.make_range(reader, range_job, log, Span(Fraction(3), None, Fraction(1)), Progress(), stop)
    assert sum(session.count for session in model.opened) == 0 and not log.extras


@pytest.mark.parametrize(
    "kept",
    [
        '{"spans": [["1/0", null, null], [null, null, null]], "why": null}',
        '{"spans": [["nan", null, null]], "why": null}',
        '{"spans": [], "why": null}',
        '{"spans": [[null, null, null, null]], "why": null}',
        "[" * 100_000,
        "[]",
    ],
)
def test_a_damaged_plan_is_said_to_be_one(tmp_path, kept):
    (tmp_path / "ranges").mkdir()
    (tmp_path / "ranges" / "plan.json").write_text(kept)
    with pytest.raises(LogError, match=r"plan\.json is damaged"):
        _ = Ranges(tmp_path, {}).plan


def test_a_range_that_does_not_begin_where_the_log_ends_is_not_used(tmp_path, monkeypatch):
    clip = media.clip(tmp_path / "in.mkv", *GOPS, picture=PICTURE)
    alone, _ = processed(clip, tmp_path / "1")
    news = merger.Tail.news
    monkeypatch.setattr(
        merger.Tail, "news", lambda self: [item for item in news(self) if getattr(item, "pts", 0) != 1000]
    )
    together, progress = processed(clip, tmp_path / "2", (Nearest(),))
    assert together == alone and "it does not begin where the log ends" in progress.warnings[0]
