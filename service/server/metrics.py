"""What Prometheus reads: is it up, is it full, where does the time go. Counted when asked, from what the jobs know."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from upres.service.jobs.service import Jobs
from upres.service.webhooks.deliveries import Deliveries


class Metrics(Collector):
    """One server's metrics."""

    def __init__(self, jobs: Jobs, deliveries: Deliveries) -> None:
        self._jobs = jobs
        self._deliveries = deliveries
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> tuple[bytes, str]:
        """Give the text, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, as it is now."""
        jobs = self._jobs
        yield GaugeMetricFamily("upres_ready", "Whether models are warm", float(jobs.ready))
        yield GaugeMetricFamily("upres_queue_jobs", "Jobs that wait for a device", len(jobs.runner.queue))
        yield GaugeMetricFamily("upres_running_jobs", "Jobs that are being made", len(jobs.runner.attempts))
        yield GaugeMetricFamily("upres_free_slots", "Attempts that could begin now", jobs.runner.executor.room)
        by_status = GaugeMetricFamily("upres_jobs", "Jobs in the database", labels=["status"])
        for status, count in jobs.store.count().items():
            by_status.add_metric([status], count)
        yield by_status
        webhooks = GaugeMetricFamily("upres_webhooks", "Webhooks of jobs in the database", labels=["stage"])
        for delivery_stage, count in self._deliveries.counts().items():
            webhooks.add_metric([delivery_stage], count)
        yield webhooks
        stages = CounterMetricFamily("upres_stage_seconds", "Busy time of finished attempts", labels=["stage"])
        for stage, seconds in jobs.runner.reports.stage_seconds.items():
            stages.add_metric([stage], seconds)
        yield stages
        yield GaugeMetricFamily(
            "upres_free_live_slots", "Live jobs that could begin now", jobs.runner.executor.live_room
        )
        yield from jobs.runner.live.late.collect()
