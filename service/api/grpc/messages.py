"""Conversions between the API's messages and the service's types."""

from collections.abc import Iterator
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from upres.engine.encode.options import LIVE_PRESET
from upres.engine.models.catalog import Slug
from upres.engine.segments.model import Fragment, Track
from upres.service.api.public_text import public
from upres.service.domain.errors import InvalidError
from upres.service.domain.spec import Delivery, Limits, Spec, WhenSlow
from upres.service.domain.states import State, Status
from upres.service.live.piece import Cursors, Dropped
from upres.service.storage.job_store import Job
from upres.v2 import upscale_pb2 as pb

N = TypeVar("N", bound=str)
MAX_CURSORS = 64
FRAGMENT_BYTES = 1 << 20  # per message; every client accepts 4 MiB

STATUSES = {
    Status.PENDING: pb.Job.STATUS_PENDING,
    Status.PROCESSING: pb.Job.STATUS_PROCESSING,
    Status.DONE: pb.Job.STATUS_DONE,
    Status.ERROR: pb.Job.STATUS_ERROR,
}
DELIVERIES: dict[Delivery, pb.Delivery] = {"segments": pb.DELIVERY_SEGMENTS, "frames": pb.DELIVERY_FRAMES}
WHEN_SLOW: dict[WhenSlow, pb.WhenSlow] = {"wait": pb.WHEN_SLOW_WAIT, "drop": pb.WHEN_SLOW_DROP}
OPTIONAL = ("scale", "content", "codec", "crf", "preset", "segment_seconds", "live_source")


def spec_of(config: pb.UpscaleConfig, *, streamed: bool) -> Spec:
    """Return the spec of a configuration, with defaults for fields that are not set."""
    options: dict[str, Any] = {"preset": LIVE_PRESET} if config.live else {}
    options |= {name: getattr(config, name) for name in OPTIONAL if config.HasField(name)}
    return Spec(
        model=config.model or next(iter(config.models), ""),
        models=tuple(config.models),
        prefilters=tuple(config.prefilters),
        split=config.split,
        tonemap=config.tonemap,
        delivery=_choice_name("delivery", config.delivery, DELIVERIES, "frames" if config.live else "segments"),
        live=config.live,
        when_slow=_choice_name("when_slow", config.when_slow, WHEN_SLOW, "wait"),
        step_down=config.step_down,
        streamed=streamed,
        **options,
    )


def _choice_name(field: str, number: int, names: dict[N, Any], default: N) -> N:
    """Return the name of a choice by its number; raises InvalidError for an unknown number."""
    if not number:
        return default
    for name, known in names.items():
        if known == number:
            return name
    raise InvalidError({field: [f"The {field} must be {' or '.join(names)}."]})


def config_of(spec: Spec, source_name: str | None) -> pb.UpscaleConfig:
    """Return a job's configuration, including defaults."""
    return pb.UpscaleConfig(
        model=spec.model,
        models=spec.models,
        scale=spec.scale if spec.models else spec.resolved_scale(),
        content=spec.content,
        prefilters=spec.prefilters,
        codec=spec.codec,
        crf=spec.crf,
        preset=spec.preset,
        segment_seconds=spec.segment_seconds,
        split=spec.split,
        tonemap=spec.tonemap,
        delivery=DELIVERIES[spec.delivery],
        live=spec.live,
        when_slow=WHEN_SLOW[spec.when_slow] if spec.live else None,
        live_source=spec.live_source,
        step_down=spec.step_down,
        source_name=source_name,
    )


def job_of(job: Job, source_bytes: int) -> pb.Job:
    """Convert a job. source_bytes: number of bytes of its source that are stored here."""
    state = job.state
    return pb.Job(
        request_id=job.request_id,
        status=STATUSES[state.status],
        progress=state.progress,
        config=config_of(Spec.from_json(job.spec), job.source_name),
        source_offset=source_bytes,
        accepted=job.accepted,
        attempts=state.attempts,
        error=_error(state),
        totals=totals_of(job.totals) if state.ended else None,
        warnings=_warnings(job.totals),
        created_at=time_of(job.created_at),
        started_at=time_of(job.started_at),
        ended_at=time_of(job.ended_at),
    )


def _error(state: State) -> pb.JobError | None:
    if state.failure is None:
        return None
    reason = state.failure.reason
    return pb.JobError(
        code=reason.code, reason=reason, message=public(state.failure.message), retryable=reason.retryable
    )


def _warnings(totals: dict[str, Any]) -> list[str]:
    return [public(text) for text in totals.get("warnings", ())]


def totals_of(state: dict[str, Any]) -> pb.Totals:
    """Convert the totals that an attempt reports."""
    return pb.Totals(
        frames_in=state.get("frames_in", 0),
        frames_out=state.get("frames_out", 0),
        frames_resumed=state.get("frames_resumed", 0),
        stage_seconds=state.get("seconds", {}),
        duration_seconds=state.get("duration_seconds", 0.0),
        bytes=state.get("bytes", 0),
        frames_dropped=state.get("frames_dropped", 0),
    )


def progress_of(job: Job, report: dict[str, Any], late: float | None) -> pb.Progress:
    """Return the progress of a job from its row and its attempt's report or, once ended, its totals. late: seconds, if live."""
    report = report or job.totals
    return pb.Progress(
        percent=job.state.progress,
        totals=totals_of(report),
        warnings=_warnings(report),
        live_late_seconds=late,
        network=report.get("network"),
    )


def time_of(seconds: float | None) -> Timestamp | None:
    """Convert Unix seconds to a timestamp, to the microsecond."""
    if seconds is None:
        return None
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1e6))
    return timestamp


def init_of(track: Track) -> pb.TrackInit:
    """Convert the header of a track."""
    return pb.TrackInit(
        track=track.name,
        codec=track.codec,
        time_base_numerator=track.time_base.numerator,
        time_base_denominator=track.time_base.denominator,
        start=track.start,
        init=track.init,
        language=track.language or "",
        disposition=track.disposition,
    )


def fragments_of(fragment: Fragment, data: bytes, start: int = 0) -> Iterator[pb.Fragment]:
    """Split the bytes of a fragment, from `start` on, into messages."""
    for offset in range(0, max(1, len(data)), FRAGMENT_BYTES):
        yield pb.Fragment(
            track=fragment.track,
            segment=fragment.segment,
            fragment=fragment.number,
            independent=fragment.independent,
            last_in_segment=fragment.last,
            pts=fragment.pts,
            duration=fragment.duration,
            crc32c=fragment.crc32c,
            size=fragment.size,
            offset=start + offset,
            data=data[offset : offset + FRAGMENT_BYTES],
            frames=fragment.frames,
        )


def dropped_of(dropped: Dropped) -> pb.Dropped:
    """Convert the fragments that a slow reader of a live log has missed."""
    fragment = dropped.fragment
    return pb.Dropped(track=fragment.track, segment=fragment.segment, fragment=fragment.number, frames=dropped.frames)


def model_of(slug: Slug, limits: Limits, unavailable: str | None) -> pb.Model:
    """Convert a model and its limits."""
    longest = limits.longest(Spec(slug.slug))
    return pb.Model(
        slug=slug.slug,
        scales=slug.scales,
        longest=None if longest is None else Duration(seconds=int(longest), nanos=round(longest % 1 * 1e9)),
        available=unavailable is None,
        unavailable_reason=public(unavailable or ""),
    )


def cursors_of(cursors: Any) -> Cursors:  # noqa: ANN401 - a repeated field
    """Convert a client's cursors; raises InvalidError if there are more than the maximum number of tracks."""
    if len(cursors) > MAX_CURSORS:
        raise InvalidError({"cursors": [f"There may be at most {MAX_CURSORS} cursors."]})
    return {cursor.track: (cursor.segment, cursor.fragment) for cursor in cursors}
