"""Segment length is chosen once from the predicted work: an interruption loses little, and resuming keeps the length."""

import random
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import media
import pytest
from fake import Nearest, job
from paths import SUPPORT

from upres.engine.api import prepared
from upres.engine.core.errors import LogError
from upres.engine.pipeline.estimate import predict
from upres.engine.pipeline.segment_length import cut_by_work
from upres.engine.pipeline.target import log_folder
from upres.engine.segments.folder import FolderLog

SLOW, FAST = 2.0, 0.001  # seconds per frame


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return media.clip(tmp_path_factory.mktemp("clip") / "in.mp4", picture="testsrc2=size=64x48:rate=10:duration=3")


def length(seconds, *models, rate=25):
    options = job(Path("out.mp4"), *models)
    prediction = type("Prediction", (), {"frame_seconds": seconds})()
    return cut_by_work(options, prediction, Fraction(rate)).encoder.segment_seconds


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.1, 2.0), (0.3, 2.0), (0.5, 1.2), (2.0, 0.28), (60.0, 0.25)], ids="{}s a frame".format
)
def test_a_segment_is_what_takes_fifteen_seconds(seconds, expected):
    assert length(seconds) == expected


def test_a_model_that_starts_its_shot_again_keeps_its_segments():
    assert length(SLOW, Nearest(warmup=None)) == 2.0


def upscaled(clip, target, seconds, *, stop=None, resume=False):
    """Upscale with this predicted time per frame. stop: interrupt after this many frames."""
    with prepared(clip, target, job(target), resume=resume) as work:
        work = work.cut_by_work(replace(predict(work.reader, work.job), frame_seconds=seconds))
        done = 0

        def tick():
            nonlocal done
            done += 1
            if done == stop:
                raise KeyboardInterrupt

        work.run(tick=tick)


def test_a_run_that_is_resumed_anywhere_keeps_the_plan_of_its_start(clip, tmp_path):
    upscaled(clip, tmp_path / "whole.mp4", SLOW)
    moments = random.Random(7)
    for number in range(5):
        target = tmp_path / f"{number}.mp4"
        with pytest.raises(KeyboardInterrupt):
            upscaled(clip, target, SLOW, stop=moments.randrange(10, 28))
        assert FolderLog.segments(log_folder(target)) > 0
        upscaled(clip, target, FAST, resume=True)  # as on a faster machine
        assert target.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


KILLED = """
import sys; sys.path.insert(0, sys.argv[1])
from dataclasses import replace
from pathlib import Path
from fake import job
from upres.engine.api import prepared
from upres.engine.pipeline.estimate import predict
target = Path(sys.argv[3])
with prepared(sys.argv[2], target, job(target), resume=True) as work:
    work = work.cut_by_work(replace(predict(work.reader, work.job), frame_seconds=2.0))
    work.run(tick=lambda: print("frame", flush=True))
"""


@pytest.mark.soak
def test_a_run_that_is_killed_at_twenty_random_moments_ends_with_the_same_bytes(clip, tmp_path):
    upscaled(clip, tmp_path / "whole.mp4", SLOW)
    moments, resumed = random.Random(7), 0
    for number in range(20):
        target = tmp_path / f"{number}.mp4"
        for _ in range(2):  # twice, the second time while it resumes
            with subprocess.Popen(
                [sys.executable, "-c", KILLED, str(SUPPORT), str(clip), str(target)], stdout=subprocess.PIPE
            ) as process:
                for _ in range(moments.randrange(1, 20)):
                    process.stdout.readline()
                process.kill()
        resumed += FolderLog.segments(log_folder(target)) > 0 if log_folder(target).exists() else 0
        if not target.exists():
            upscaled(clip, target, FAST, resume=True)
        assert target.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert resumed > 10


def test_a_damaged_log_says_so(clip, tmp_path):
    target = tmp_path / "out.mp4"
    log_folder(target).mkdir()
    (log_folder(target) / "index.jsonl").write_text("{nothing}\n")
    with pytest.raises(LogError, match=r"index\.jsonl is damaged"):
        upscaled(clip, target, SLOW, resume=True)
