"""A clip of one minute on 1, 2, 4 and 8 Ray actors gives the bytes of one range on one worker, with real networks."""

import asyncio
import importlib
import logging
import os
from dataclasses import replace

import pytest
import ray_nodes
from film import film
from ordered import Watched, ordered

from upres.engine.models.flashvsr.manifest import folder_of
from upres.service.domain.spec import Spec
from upres.service.execution.base import ExecutorOptions, make_executor
from upres.service.execution.local import LocalExecutor

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")
pytest.importorskip("ray")

from small_flashvsr import WEIGHTS  # noqa: E402 - after the check for torch

from upres.export.flashvsr.graphs.settings import Settings  # noqa: E402
from upres.export.flashvsr.graphs.write import write_graphs  # noqa: E402

pytestmark = [pytest.mark.scale, pytest.mark.soak, pytest.mark.timeout(3600)]

SECONDS, LONGEST_SECONDS = 60, 1200
GOPS = ("-c:v", "libx264", "-bf", "3", "-x264-params")
UNEVEN = ("-vf", "settb=1/1000,setpts='100*N+30*mod(N,3)'", "-fps_mode", "passthrough", "-enc_time_base", "1:1000")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A node with eight CPUs, which finds a small FlashVSR with random weights in its cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPRES_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("UPRES_RANDOM_WEIGHTS", "1")
        write_graphs(WEIGHTS, folder_of("flashvsr-v1.1-tiny"), Settings(profiles=((128, 128),)))
        with ray_nodes.cluster(8) as nodes:
            yield nodes


async def results(executor, workers, *orders, alone=False):
    """Run orders one after another; return the bytes and the frame count of each result, and the ranges of each worker."""
    watched = Watched(executor)
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            await watched.start(workers)
            for number in range(workers):
                watched.change(number, lambda order: order)
            give = watched.run_alone if alone else executor.run
            return [await watched.result(give, order) for order in orders], watched.ranges
    finally:
        await executor.stop()


def on_one_worker(*orders):
    executor = LocalExecutor(ExecutorOptions(workers=1, slots=1))
    return asyncio.run(results(executor, 1, *orders, alone=True))[0]


def on_ray(folder, workers, *orders):
    options = ExecutorOptions(folder=folder, memory_bytes=8 << 30, workers=workers)
    return asyncio.run(results(make_executor("ray", options), workers, *orders))


@pytest.fixture(scope="module")
def expected(cluster, clip, tmp_path_factory):
    return on_one_worker(ordered(tmp_path_factory.mktemp("one") / "job", clip("a.mp4", SECONDS)))


@pytest.mark.parametrize("actors", [1, 2, 4, 8])
def test_any_number_of_actors_makes_the_bytes_of_one_range(cluster, expected, clip, tmp_path, actors):
    """Both as one range and as at least eight; no device is left out."""
    source = clip("a.mp4", SECONDS)
    made, ranges = on_ray(tmp_path, actors, ordered(tmp_path / "job", source))
    assert made == expected and made[0][1] == 10 * SECONDS
    if actors > 1:
        assert all(ranges[number] for number in range(actors)) and sum(map(len, ranges.values())) >= 8


@pytest.mark.parametrize(
    ("name", "options"),
    [("open.mkv", (*GOPS, "open-gop=1:scenecut=0")), ("uneven.mkv", (*UNEVEN, *GOPS, "scenecut=0"))],
)
def test_open_groups_of_pictures_and_a_variable_rate_make_the_bytes_of_one_range(
    cluster, clip, tmp_path, name, options
):
    source = clip(name, SECONDS, *options)
    made, ranges = on_ray(tmp_path, 2, ordered(tmp_path / "job", source))
    assert made == on_one_worker(ordered(tmp_path / "alone", source))
    assert sum(map(len, ranges.values())) >= 8 and ranges[0] and ranges[1]


def test_what_cannot_be_divided_is_one_range_and_the_log_says_why(cluster, clip, tmp_path, caplog):
    """A source without an index, and FlashVSR, which remembers earlier frames."""
    caplog.set_level(logging.INFO)
    bare, shots = clip("bare.h264", SECONDS, "-an"), film(tmp_path / "film.mp4", 60)
    spec = Spec("FlashVSR_Tiny", scale=2, segment_seconds=0.4, preset="ultrafast").as_json()

    def orders(folder):
        return ordered(folder / "bare", bare), replace(ordered(folder / "sharp", shots), spec=spec)

    made, ranges = on_ray(tmp_path / "ray", 2, *orders(tmp_path / "ray"))
    assert made == on_one_worker(*orders(tmp_path / "alone"))
    assert not any(ranges.values())
    assert "one device works on it: the source's packets cannot be relied on" in caplog.text
    assert "one device works on it: flashvsr-v1.1-tiny remembers earlier frames" in caplog.text
