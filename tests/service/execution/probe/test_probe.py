"""The probe of an upload: in turn, bounded, and without a verdict on a source whose probe was killed."""

import asyncio
import errno
import os
from contextlib import asynccontextmanager

import media
import processes
import psutil
import pytest

from upres.engine.core.errors import SourceError
from upres.engine.pipeline.advice import NOISY
from upres.service.domain.errors import BusyError, TooLargeError, TooSmallError, UnavailableError
from upres.service.domain.fair_slots import MOST_WAITING_EACH
from upres.service.domain.spec import PROFILES, Limits, Spec
from upres.service.execution.probe import probe as probes
from upres.service.execution.probe.probe import AT_ONCE, TRIES, Probe, ProbeKilledError
from upres.service.execution.probe.process import Facts

SPEC = Spec("RealESRGAN_Vid_x2")
LARGE = "testsrc2=size=4096x2160:rate=10:duration=0.1"


@asynccontextmanager
async def probing():
    probe = Probe(Limits(seconds=PROFILES["deapi"]))
    try:
        yield probe
    finally:
        probe.close()


async def kill_next():
    """Kill the next probe that runs."""
    async with asyncio.timeout(60):
        while True:
            for process in processes.below("upres-probe"):
                process.kill()
                process.wait(10)
                return
            await asyncio.sleep(0.01)


def test_it_tells_what_a_source_holds(clip):
    async def scenario():
        async with probing() as probe:
            assert await probe(clip("a.mp4"), SPEC, "alice") == Facts(64, 48, 30)

    asyncio.run(scenario())


CONTAINERS = {
    "tape.dv": ("-target", "pal-dv", "-frames:v", 5),
    "a.gif": (),
    "a.apng": ("-plays", 0),
    "a.rm": ("-c:v", "rv10", "-s", "128x96"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_it_takes_what_the_command_line_takes(tmp_path, name):
    source = media.clip(tmp_path / name, *CONTAINERS[name], picture="testsrc2=size=64x48:rate=5:duration=1")

    async def scenario():
        async with probing() as probe:
            facts = await probe(source, SPEC, "alice")
            assert (facts.width >= 64, facts.frames in (0, 5)) == (True, True)

    asyncio.run(scenario())


def test_what_advice_goes_by_is_measured(tmp_path):
    noisy = media.clip(
        tmp_path / "in.mp4", picture="nullsrc=size=64x48:rate=10:duration=1,geq=128+random(1)*60:128:128"
    )

    async def scenario():
        async with probing() as probe:
            clip = await probe.measure(noisy, SPEC, "alice")
            assert (clip.height, clip.seconds) == (48, 1.0) and clip.measured.noise > NOISY
            with pytest.raises(SourceError):
                (tmp_path / "text").write_text("no video\n" * 1000)
                await probe.measure(tmp_path / "text", SPEC, "alice")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "clip", [None, {}, {"height": "1"}, {"height": 1, "seconds": 1, "measured": {"interlaced": "x"}}]
)
def test_what_a_probe_says_that_was_taken_over_is_no_measurement(clip):
    with pytest.raises(ProbeKilledError):
        probes._parse_clip({"facts": {"width": 1, "height": 1, "frames": 1}, "clip": clip})


def test_what_is_wrong_with_a_source_is_said(clip, tmp_path):
    (tmp_path / "text").write_text("no video\n" * 1000)

    async def scenario():
        async with probing() as probe:
            with pytest.raises(SourceError) as refused:
                await probe(tmp_path / "text", SPEC, "alice")
            assert str(tmp_path) not in str(refused.value)
            with pytest.raises(TooLargeError, match="must not be longer"):
                await probe(clip("a.mp4", 40), SPEC, "alice")
            small = media.clip(tmp_path / "small.mkv", "-c:v", "ffv1", "-frames:v", 1, picture="color=size=2x2")
            with pytest.raises(TooSmallError, match="at least 16 pixels a side, not 2x2"):
                await probe(small, SPEC, "alice")

    asyncio.run(scenario())


@pytest.mark.parametrize("kills", range(1, TRIES + 1))
def test_a_probe_that_is_killed_is_made_once_more_and_is_no_verdict(tmp_path, kills):
    """A pipe blocks each probe until it is killed; the last one gets something to read."""
    os.mkfifo(tmp_path / "pipe")

    async def scenario():
        async with probing() as probe:
            looking = asyncio.create_task(probe(tmp_path / "pipe", SPEC, "alice"))
            for _ in range(kills):
                await kill_next()
            if kills == TRIES:
                with pytest.raises(UnavailableError, match="try again"):
                    await looking
            else:
                await asyncio.to_thread((tmp_path / "pipe").write_bytes, b"no video" * 1000)
                with pytest.raises(SourceError):
                    await looking

    asyncio.run(scenario())


def test_a_system_without_a_process_left_is_no_verdict(tmp_path, monkeypatch):
    def fork():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    async def scenario():
        async with probing() as probe:
            monkeypatch.setattr(probe._server, "fork", fork)
            with pytest.raises(UnavailableError, match="could not start"):
                await probe(tmp_path / "source", SPEC, "alice")
            with pytest.raises(UnavailableError, match="processes left"):
                await probe.confinement()

    asyncio.run(scenario())


def test_a_request_that_goes_away_leaves_no_process(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    async def scenario():
        async with probing() as probe:
            looking = asyncio.create_task(probe(tmp_path / "pipe", SPEC, "alice"))
            running = []
            async with asyncio.timeout(60):
                while not running:
                    await asyncio.sleep(0.01)
                    running = processes.below("upres-probe")
            looking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looking
            assert await asyncio.to_thread(psutil.wait_procs, running, 30) == (running, [])

    asyncio.run(scenario())


def test_one_keys_slow_sources_do_not_keep_anothers_from_being_looked_at(clip, tmp_path):
    """Each of alice's probes is blocked by a pipe without a writer."""
    os.mkfifo(tmp_path / "pipe")

    async def scenario():
        async with probing() as probe:
            slow = [asyncio.create_task(probe(tmp_path / "pipe", SPEC, "alice")) for _ in range(10)]
            await asyncio.sleep(0)
            assert await probe(clip("a.mp4"), SPEC, "bob") == Facts(64, 48, 30)
            assert not any(task.done() for task in slow)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    asyncio.run(scenario())


def test_a_key_that_asks_for_too_much_is_told_to_come_again(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    async def scenario():
        async with probing() as probe:
            probes = [asyncio.create_task(probe(tmp_path / "pipe", SPEC, "alice")) for _ in range(100)]
            refused = 0
            async with asyncio.timeout(30):
                while not refused:
                    refused = sum(task.done() and isinstance(task.exception(), BusyError) for task in probes)
                    await asyncio.sleep(0)
            for task in probes:
                task.cancel()
            await asyncio.gather(*probes, return_exceptions=True)
            assert refused == 100 - AT_ONCE - MOST_WAITING_EACH + 1

    asyncio.run(scenario())


def test_the_largest_frames_there_may_be_fit_into_a_probes_memory(tmp_path):
    """HEVC's decoder needs the most memory, and each of its threads needs some."""
    source = media.clip(tmp_path / "large.mp4", "-c:v", "libx265", "-preset", "ultrafast", picture=LARGE)

    async def scenario():
        async with probing() as probe:
            assert await probe(source, SPEC, "alice") == Facts(4096, 2160, 1)

    asyncio.run(scenario())
