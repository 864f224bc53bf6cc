"""Sources that break off and are reopened: one connection at a time, and none after reading was stopped."""

import io
import shutil
import threading

import media
import pytest
from fake import Pipe, Silent
from imageio_ffmpeg import get_ffmpeg_exe

from upres.engine.core.errors import Interrupted, SourceError
from upres.engine.decode.openers.interruptible import Interruptible
from upres.engine.decode.reader import Reader
from upres.engine.decode.source import Opened

LIMIT = 30  # seconds
PICTURE = "testsrc2=size=64x48:rate=10:duration=4"


class Camera:
    """Opener that opens one connection after the other and records the events of each; None stands for a source that is off."""

    live, reconnect = True, 3

    def __init__(self, *connections):
        self.connections, self.log, self.off = list(connections), [], lambda: None

    def open(self, source, *, spool):
        if not self.connections:
            self.log.append("off")
            self.off()
            raise SourceError("the camera is off")
        number = len(self.log)
        reading = Interruptible(self.connections.pop(0))
        self.log.append(f"open {number}")

        def close():
            reading.close()
            self.log.append(f"close {number}")

        return Opened(reading, close=close, interrupt=reading.close)


class Stopping(io.BytesIO):
    """A file whose reads are interrupted once it is `stopped`."""

    stopped = False

    def read(self, size=-1):
        if self.stopped:
            raise Interrupted("reading of the file was stopped")
        return super().read(size)


@pytest.fixture
def halves(clips):
    data = media.clip(clips / "halves.ts", "-c:v", "mpeg2video", "-g", 5, picture=PICTURE).read_bytes()
    middle = len(data) // 2 // 188 * 188
    return data[:middle], data[middle:]


class Reading:
    """Reads all frames in a thread. error: the exception that ended it. frames: number of frames read."""

    def __init__(self, reader):
        self.frames, self.error = 0, None
        self._reader = reader
        self.arrived = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            for _ in self._reader.frames():
                self.frames += 1
                self.arrived.set()
        except Interrupted as error:
            self.error = error

    def ended(self):
        self.thread.join(LIMIT)
        return not self.thread.is_alive()


def opened(monkeypatch, camera):
    monkeypatch.setattr("upres.engine.decode.connection.opener_for", lambda source: camera)
    return Reader("camera")


def test_the_connection_that_waits_is_interrupted_and_each_is_closed_before_the_next(monkeypatch, halves):
    first, second = Pipe(halves[0]), Silent(halves[1])
    camera = Camera(first, second)
    with opened(monkeypatch, camera) as reader:
        reading = Reading(reader)
        assert second.waiting.wait(LIMIT)
        seen = list(camera.log)
        reader.interrupt()
        ended = reading.ended()
        second.over.set()
        assert reading.ended()
    assert ended and isinstance(reading.error, Interrupted)
    assert reading.frames > 20
    assert seen == ["open 0", "close 0", "open 2"]
    assert camera.log == ["open 0", "close 0", "open 2", "close 2"]


def test_after_an_interruption_nothing_is_opened_and_no_pause_is_waited_for(monkeypatch, halves):
    camera = Camera(Pipe(halves[0]))
    with opened(monkeypatch, camera) as reader:
        camera.off = lambda: camera.log.count("off") == 2 and reader.interrupt()
        reading = Reading(reader)
        assert reading.ended()
    assert camera.log.count("off") == 2


def test_an_interrupted_program_is_not_started_again(monkeypatch, tmp_path, clips):
    clip = media.clip(clips / "program.ts", "-c:v", "mpeg2video", "-g", 5)
    program, starts = tmp_path / "ffmpeg", tmp_path / "starts"
    command = f"'{get_ffmpeg_exe()}' -v error -re -stream_loop -1 -i '{clip}' -c copy -flush_packets 1 -f nut pipe:1"
    program.write_text(f"#!/bin/sh\necho started >> '{starts}'\nexec {command}\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    with Reader("srt://127.0.0.1:1") as reader:
        reading = Reading(reader)
        assert reading.arrived.wait(LIMIT)
        reader.interrupt()
        assert reading.ended()
    assert starts.read_text().splitlines() == ["started"]


def test_an_interruption_is_raised_once_and_printed_nowhere(clips, capfd):
    """libavformat's Matroska demuxer reads again after an error, and PyAV would print a second error with its traceback."""
    clip = media.clip(clips / "interrupted.mkv", "-c:v", "mpeg2video", "-g", 5, picture=PICTURE)
    silent = Silent(clip.read_bytes()[:-1000])
    with Reader(silent, live=True) as reader:
        reading = Reading(reader)
        assert silent.waiting.wait(LIMIT)
        reader.interrupt()
        assert reading.ended() and isinstance(reading.error, Interrupted)
    silent.over.set()
    assert capfd.readouterr().err == ""


def test_an_interruption_of_a_file_is_raised_once_and_printed_nowhere(clips, capfd):
    file = Stopping(media.clip(clips / "stopping.mkv", "-c:v", "mpeg2video", "-g", 5, picture=PICTURE).read_bytes())
    with Reader(file) as reader, pytest.raises(Interrupted):
        for _ in reader.frames():
            file.stopped = True
    assert capfd.readouterr().err == ""
