"""A stream that blocks does not block its readers."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import media
import pytest
from fake import Nearest, Pipe, Silent, job
from paths import SUPPORT

from upres.engine.api import stream
from upres.engine.core.errors import Interrupted, TargetError
from upres.engine.decode.openers.interruptible import Interruptible
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.segments.memory import MemoryLog

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
    """A full disk is reported at once, although the sender keeps the stream open without sending."""

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


def live_run(path, keep_up):
    """Run a live source that stops sending, and press Ctrl-C once; in a separate process that receives the signal."""
    source = Silent(Path(path).read_bytes())
    job = Job((Nearest(),), Encoder(fragment="frame", live=True, preset="ultrafast"), keep_up=keep_up)
    progress, ended = Progress(), threading.Event()

    def once(number, frame):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    def ctrl_c():
        source.waiting.wait()
        while progress.frames_out + progress.frames_dropped < progress.frames_in and not ended.wait(0.05):
            pass
        while not ended.wait(
            0.05
        ):  # one that comes just before a wait does not end it: Python looks once more after that
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    signal.signal(signal.SIGINT, once)
    threading.Thread(target=ctrl_c, daemon=True).start()
    try:
        with Reader(source, live=True) as reader:
            list(run(reader, job, MemoryLog({}), progress))
    except KeyboardInterrupt:
        ended.set()
        source.over.set()
        sys.stdout.write(" ".join(thread.name for thread in threading.enumerate() if thread.name in ("read", "infer")))
        sys.stdout.write("ended")


@pytest.mark.parametrize("keep_up", [True, False])
def test_ctrl_c_ends_a_live_run_whose_source_is_silent(clips, keep_up):
    """The models wait for a frame and the reader for bytes that never arrive."""
    clip = media.clip(clips / "silent.ts", "-c:v", "mpeg2video", "-f", "mpegts")
    folders = [str(Path(__file__).parent), str(SUPPORT)]
    code = f"import sys; sys.path[:0] = {folders}; import test_interruptible as t; t.live_run({str(clip)!r}, {keep_up})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (0, "ended"), done.stderr
