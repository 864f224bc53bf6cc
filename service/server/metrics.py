"""Prometheus metrics: availability, waiting jobs, time spent and resource usage.

Most are computed on request from the state of jobs and devices. Labels have few values, never a key or a job.
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

PLACES = "upres_queue_places", "Jobs that wait for a device at any server, or for their source"


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> list[Metric]:
        return self._families


class Metrics:
    """One server's metrics. folder: on the disk that holds the jobs."""

    def __init__(self, jobs: Jobs, deliveries: Deliveries, tally: Tally, folder: Path) -> None:
        self._jobs = jobs
        self._deliveries = deliveries
        self._tally = tally
        self._folder = folder
        self._reading: asyncio.Task[list[Metric]] | None = None

    async def text(self) -> tuple[bytes, str]:
        """Return the metrics as text, with the content type. Metrics from the database are omitted while it is unavailable."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(lambda: list(self._stored_metrics())))
        # One query for all concurrent requests, since requests need no key.
        stored = await asyncio.shield(self._reading)
        families = _Families([*stored, *self._known_metrics()])
        return generate_latest(families), CONTENT_TYPE_LATEST

    def _stored_metrics(self) -> Iterator[Metric]:
        """Yield the metrics that are read from the disk and the database."""
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
        if not self._jobs.store.leads:  # otherwise every server would count them
            return
        if waiting is not None:
            yield _gauge(*PLACES, self._jobs.store.shared_queue.count_places())
        yield _gauges("upres_jobs", "Jobs in the database", "status", jobs)
        yield _gauges("upres_webhooks", "Webhooks of jobs in the database", "stage", webhooks)

    def _known_metrics(self) -> Iterator[Metric]:
        """Yield the metrics that are known to the event loop, in which this runs, so that they are consistent."""
        scheduler, policy = self._jobs.scheduler, self._jobs.policy
        if self._jobs.store.server is None:
            queue = scheduler.queue
            yield from _queue(QueueStats(len(queue), len(queue.owners), queue.oldest), policy)
            yield _gauge(*PLACES, len(queue) + len(queue.reservations))
        yield _gauge("upres_running_jobs", "Jobs that are being processed", len(scheduler.attempts))
        yield _gauge("upres_free_slots", "Attempts that could start now", scheduler.executor.room)
        yield _gauge("upres_free_live_slots", "Live jobs that could start now", scheduler.executor.live_room)
        yield _gauge("upres_disk_reserve_bytes", "Free bytes below which no jobs are accepted", policy.free_bytes)
        yield from _live(scheduler.live)
        yield from _devices(scheduler.executor.devices)
        yield from self._tally.collect()


def _queue(queue: QueueStats, policy: Policy) -> Iterator[Metric]:
    yield _gauge("upres_queue_jobs", "Jobs that wait for a device", queue.jobs)
    yield _gauge("upres_queue_limit_jobs", "Maximum number of waiting jobs; more are rejected", policy.queue)
    yield _gauge("upres_queue_keys", "API keys with waiting jobs", queue.keys)
    yield _gauge("upres_queue_oldest_seconds", "Waiting time of the job that has waited longest", queue.oldest)


def _live(live: Live) -> Iterator[Metric]:
    rings = live.rings
    yield _gauge("upres_live_jobs", "Running live jobs", len(rings))
    yield _gauge("upres_live_ring_bytes", "Bytes that the logs of live jobs hold", sum(ring.bytes for ring in rings))
    limit = sum(ring.most_bytes for ring in rings)
    yield _gauge("upres_live_ring_limit_bytes", "Maximum bytes that the logs of live jobs may hold", limit)
    blocked = sum(ring.blocked_since is not None for ring in rings)
    yield _gauge("upres_live_held_up_jobs", "Live jobs that wait for their client to read", blocked)
    yield from live.late.collect()


def _devices(devices: Sequence[DeviceState]) -> Iterator[Metric]:
    def of_each(name: str, text: str, value: Callable[[DeviceState], float]) -> Metric:
        return _gauges(f"upres_device_{name}", text, "device", {device.name: value(device) for device in devices})

    yield of_each("ready", "Whether a device's models are warm", lambda device: device.ready)
    yield of_each("attempts", "Attempts running on a device", lambda device: device.attempts)
    yield of_each("memory_reserved_bytes", "Memory that attempts have reserved", lambda device: device.load.memory)
    yield of_each("memory_limit_bytes", "Memory that attempts may reserve", lambda device: device.load.memory_limit)
    yield of_each("memory_waiting", "Attempts that wait for memory", lambda device: device.load.memory_waiting)
    yield of_each("encoder_sessions", "Sessions of the GPU's encoder in use", lambda device: device.load.encoders)
    yield of_each(
        "encoder_limit_sessions", "Maximum sessions of the GPU's encoder", lambda device: device.load.encoder_limit
    )
    busy = CounterMetricFamily("upres_device_busy_seconds", "Time that models have worked", labels=["device"])
    frames = CounterMetricFamily("upres_frames", "Frames that models have produced", labels=["device", "model"])
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
