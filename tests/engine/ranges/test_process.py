"""A device in a separate process: it makes requested ranges or reports why not, and ends with its parent."""

import json
import os
import sys
from dataclasses import replace

import media
import pytest
from companions import companion
from fake import job

from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.ranges import process
from upres.engine.ranges.devices import DeviceLostError
from upres.engine.ranges.folder import Ranges
from upres.engine.ranges.plan import plan
from upres.engine.ranges.process import ProcessDevice, Setup


@pytest.fixture
def setup(tmp_path):
    clip = media.clip(
        tmp_path / "in.mp4", "-c:v", "libx264", "-g", "5", picture="testsrc2=size=64x48:rate=10:duration=2"
    )
    range_job = job(tmp_path / "out.mp4", encoder=Encoder(segment_seconds=0.5, preset="ultrafast"))
    with Reader(clip) as reader:
        ranges = Ranges(tmp_path, json.loads(json.dumps(range_job.settings())))
        ranges.keep(plan(reader, range_job, 2))
        return range_job, ranges, Setup(reader.another, replace(range_job, models=()), tmp_path, ranges.header)


def test_it_makes_ranges_and_says_what_it_cannot(setup, tmp_path):
    range_job, ranges, device_setup = setup
    device = ProcessDevice(companion(tmp_path / "none"), device_setup, range_job.settings())
    try:
        device.prepare()
        assert os.getpgid(device._process.pid) != os.getpgid(0)  # Ctrl-C in a terminal only reaches this process
        device.make(2)
        assert [ranges.is_made(number) for number in range(4)] == [False, False, True, False]
        with pytest.raises(RuntimeError, match="IndexError"):
            device.make(99)
        device.stop()
        with pytest.raises(DeviceLostError, match=r"gone|ended"):
            device.make(1)
    finally:
        device.close()


def test_one_with_other_models_is_not_used(setup, tmp_path):
    range_job, _, device_setup = setup
    device = ProcessDevice(companion(tmp_path / "none", "another"), device_setup, range_job.settings())
    try:
        with pytest.raises(DeviceLostError, match="it has other models"):
            device.prepare()
    finally:
        device.close()


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("import time; time.sleep(600)", "has been silent for 0.2 s"),
        ("print('x', flush=True); input()", "an invalid response"),
        ("import time\nwhile True: print('y' * 100, end='', flush=True)", "a line of more than 64 bytes"),
        ("print('{', end='')", "has ended"),
    ],
)
def test_one_that_says_nothing_or_too_much_is_lost(setup, tmp_path, monkeypatch, says, why):
    monkeypatch.setattr(process, "SILENT_SECONDS", 0.2 if "sleep" in says else 60.0)
    monkeypatch.setattr(process, "LINE_BYTES", 64)
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -Ic "$SAYS"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("SAYS", says)
    range_job, _, device_setup = setup
    device = ProcessDevice(companion(tmp_path / "none"), device_setup, range_job.settings())
    try:
        with pytest.raises(DeviceLostError, match=why):
            device.prepare()
    finally:
        device.close()
