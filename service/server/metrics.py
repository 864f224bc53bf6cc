"""What Prometheus reads: is it up, does anybody wait, where does the time go, what is full.

Most of it is counted when asked, from what jobs and devices know; labels take few values each, never a key or a job.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from upres.service.domain.errors import StoreError
from upres.service.domain.policy import Policy
from upres.service.execution.base import DeviceState
from upres.service.jobs.service import Jobs
from upres.service.live.relay import Live
from upres.service.storage.shared_queue import QueueStats
from upres.service.telemetry.tally import Tally
from upres.service.webhooks.deliveries import Deliveries

PLACES = "upres_queue_places", "Jobs that wait for a device at any server, or whose source is to come"


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> list[Metric]:
        return self._families


class Metrics:
    """One server's metrics. folder: on the disk that jobs fill."""

    def __init__(self, jobs: Jobs, deliveries: Deliveries, tally: Tally, folder: Path) -> None:
        self._jobs = jobs
        self._deliveries = deliveries
        self._tally = tally
        self._folder = folder
        self._reading: asyncio.Task[list[Metric]] | None = None

    async def text(self) -> tuple[bytes, str]:
        """Give the text, and its content type. What the database knows is left out while it does not answer."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(lambda: list(self._stored())))
        stored = await asyncio.shield(self._reading)  # one for all who ask meanwhile: no key is needed to ask
        families = _Families([*stored, *self._known()])
        return generate_latest(families), CONTENT_TYPE_LATEST

    def _stored(self) -> Iterator[Metric]:
        """Yield what lies on the disk and in the database."""
        yield _gauge("upres_ready", "Whether models are warm", self._jobs.ready)
        disk = shutil.disk_usage(self._folder)
        yield _gauge("upres_disk_free_bytes", "Free bytes of the disk that jobs fill", disk.free)
        try:
            jobs, webhooks = self._jobs.store.count(), self._deliveries.counts()
            waiting = None if self._jobs.store.server is None else self._jobs.store.shared_queue.count()
        except StoreError:
            yield _gauge("upres_database_up", "Whether the database answers", 0)
            return
        yield _gauge("upres_database_up", "Whether the database answers", 1)
        if waiting is not None:
            yield from _queue(waiting, self._jobs.policy)
        if not self._jobs.store.leads:  # else they would be counted for each server
            return
        if waiting is not None:
            yield _gauge(*PLACES, self._jobs.store.shared_queue.count_places())
        yield _gauges("upres_jobs", "Jobs in the database", "status", jobs)
        yield _gauges("upres_webhooks", "Webhooks of jobs in the database", "stage", webhooks)

    def _known(self) -> Iterator[Metric]:
        """Yield what the event loop knows, on which this runs: nothing changes meanwhile."""
        scheduler, policy = self._jobs.scheduler, self._jobs.policy
        if self._jobs.store.server is None:
            queue = scheduler.queue
            yield from _queue(QueueStats(len(queue), len(queue.owners), queue.oldest), policy)
            yield _gauge(*PLACES, len(queue) + len(queue.reservations))
        yield _gauge("upres_running_jobs", "Jobs that are being made", len(scheduler.attempts))
        yield _gauge("upres_free_slots", "Attempts that could begin now", scheduler.executor.room)
        yield _gauge("upres_free_live_slots", "Live jobs that could begin now", scheduler.executor.live_room)
        yield _gauge("upres_disk_reserve_bytes", "Free bytes below which no jobs are taken", policy.free_bytes)
        yield from _live(scheduler.live)
        yield from _devices(scheduler.executor.devices)
        yield from self._tally.collect()


def _queue(queue: QueueStats, policy: Policy) -> Iterator[Metric]:
    yield _gauge("upres_queue_jobs", "Jobs that wait for a device", queue.jobs)
    yield _gauge("upres_queue_limit_jobs", "Jobs that may wait; more are refused", policy.queue)
    yield _gauge("upres_queue_keys", "API keys whose jobs wait", queue.keys)
    yield _gauge("upres_queue_oldest_seconds", "How long the job has waited that has waited longest", queue.oldest)


def _live(live: Live) -> Iterator[Metric]:
    rings = live.rings
    yield _gauge("upres_live_jobs", "Live jobs under way", len(rings))
    yield _gauge("upres_live_ring_bytes", "Bytes that the logs of live jobs hold", sum(ring.bytes for ring in rings))
    limit = sum(ring.most_bytes for ring in rings)
    yield _gauge("upres_live_ring_limit_bytes", "Bytes that they hold at most", limit)
    held_up = sum(ring.blocked_since is not None for ring in rings)
    yield _gauge("upres_live_held_up_jobs", "Live jobs that wait for their client to read", held_up)
    yield from live.late.collect()


def _devices(devices: Sequence[DeviceState]) -> Iterator[Metric]:
    def of_each(name: str, text: str, value: Callable[[DeviceState], float]) -> Metric:
        return _gauges(f"upres_device_{name}", text, "device", {device.name: value(device) for device in devices})

    yield of_each("ready", "Whether a device's models are warm", lambda device: device.ready)
    yield of_each("attempts", "Attempts under way on a device", lambda device: device.attempts)
    yield of_each("memory_reserved_bytes", "Memory that attempts have reserved", lambda device: device.load.memory)
    yield of_each("memory_limit_bytes", "Memory that attempts may reserve", lambda device: device.load.memory_limit)
    yield of_each("memory_waiting", "Attempts that wait for memory", lambda device: device.load.memory_waiting)
    yield of_each("encoder_sessions", "Sessions of the GPU's encoder in use", lambda device: device.load.encoders)
    yield of_each("encoder_limit_sessions", "Sessions that may be", lambda device: device.load.encoder_limit)
    busy = CounterMetricFamily("upres_device_busy_seconds", "Time that models have worked", labels=["device"])
    frames = CounterMetricFamily("upres_frames", "Frames that models have made", labels=["device", "model"])
    for device in devices:
        busy.add_metric([device.name], device.load.busy_seconds)
        for model, count in device.load.frames.items():
            frames.add_metric([device.name, model], count)
    yield from (busy, frames)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, float(value))


def _gauges(name: str, text: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for named, value in values.items():
        family.add_metric([named], float(value))
    return family
