"""A stream that blocks holds nobody up."""

import os
import threading
from pathlib import Path

import media
import pytest
from fake import Nearest, Pipe, job

from upres.engine.api import stream
from upres.engine.core.errors import Interrupted, TargetError
from upres.engine.decode.openers.interruptible import Interruptible

LONG = "testsrc2=size=64x48:rate=10:duration=60"


def test_bytes_and_errors_come_as_they_are():
    source = Interruptible(Pipe(b"abcdef", chunk=4))
    assert [source.read(3), source.read(9), source.read(9), source.read(9)] == [b"abc", b"def", b"", b""]
    with pytest.raises(ValueError, match="closed file"):
        Interruptible(closed()).read(1)


def closed():
    file = Path(os.devnull).open("rb", buffering=0)  # noqa: SIM115 - it is closed here
    file.close()
    return file


def test_a_read_that_waits_ends_when_it_is_closed():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as pipe, os.fdopen(writing, "wb"):
        source = Interruptible(pipe)
        threading.Timer(0.05, source.close).start()
        with pytest.raises(Interrupted):
            source.read(1)
        with pytest.raises(Interrupted):
            source.read(1)


@pytest.mark.timeout(60)
def test_an_error_behind_the_reader_does_not_wait_for_more_of_the_source(clips):
    """The sender keeps its end open and sends nothing: a full disk is reported at once all the same."""

    class Full(Nearest):
        def open(self, width, height):
            raise TargetError("No space left on device")

    data = media.clip(clips / "waits.ts", "-c:v", "mpeg2video", "-f", "mpegts", picture=LONG).read_bytes()
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as pipe, os.fdopen(writing, "wb", buffering=0) as sender:
        sending = threading.Thread(target=sender.write, args=(data,), daemon=True)
        sending.start()
        with pytest.raises(TargetError, match="No space left"):
            list(stream(pipe, job(Path("out.mp4"), Full())))
    assert "read" not in {thread.name for thread in threading.enumerate()}
