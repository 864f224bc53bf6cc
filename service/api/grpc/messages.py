"""Between the contract's messages and what the service itself speaks of."""

from collections.abc import Iterator
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from upres.engine.models.catalog import Slug
from upres.engine.segments.model import Fragment, Track
from upres.service.domain.errors import InvalidError
from upres.service.domain.spec import Delivery, Limits, Spec, WhenSlow
from upres.service.domain.states import State, Status
from upres.service.live.ring import Cursors, Dropped
from upres.service.storage.job_store import Job
from upres.v2 import upscale_pb2 as pb

N = TypeVar("N", bound=str)
FRAGMENT_BYTES = 1 << 20  # of one message; every client takes 4 MiB

STATUSES = {
    Status.PENDING: pb.Job.STATUS_PENDING,
    Status.PROCESSING: pb.Job.STATUS_PROCESSING,
    Status.DONE: pb.Job.STATUS_DONE,
    Status.ERROR: pb.Job.STATUS_ERROR,
}
DELIVERIES: dict[Delivery, pb.Delivery] = {"segments": pb.DELIVERY_SEGMENTS, "frames": pb.DELIVERY_FRAMES}
WHEN_SLOW: dict[WhenSlow, pb.WhenSlow] = {"wait": pb.WHEN_SLOW_WAIT, "drop": pb.WHEN_SLOW_DROP}
OPTIONAL = ("scale", "content", "codec", "crf", "preset", "segment_seconds")


def spec_of(config: pb.UpscaleConfig, *, streamed: bool) -> Spec:
    """What a client asks for, with defaults where it says nothing."""
    given: dict[str, Any] = {name: getattr(config, name) for name in OPTIONAL if config.HasField(name)}
    return Spec(
        model=config.model,
        prefilters=tuple(config.prefilters),
        split=config.split,
        tonemap=config.tonemap,
        delivery=_named("delivery", config.delivery, DELIVERIES, "frames" if config.live else "segments"),
        live=config.live,
        when_slow=_named("when_slow", config.when_slow, WHEN_SLOW, "wait"),
        streamed=streamed,
        **given,
    )


def _named(field: str, number: int, names: dict[N, Any], default: N) -> N:
    """A choice by its number; InvalidError where there is none of this number, as newer clients may ask for."""
    if not number:
        return default
    for name, known in names.items():
        if known == number:
            return name
    raise InvalidError({field: [f"The {field} must be {' or '.join(names)}."]})


def config_of(spec: Spec) -> pb.UpscaleConfig:
    """The configuration that holds."""
    return pb.UpscaleConfig(
        model=spec.model,
        scale=spec.resolved_scale(),
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
    )


def job_of(job: Job, source_bytes: int) -> pb.Job:
    """A job as it stands."""
    state = job.state
    return pb.Job(
        request_id=job.request_id,
        status=STATUSES[state.status],
        progress=state.progress,
        config=config_of(Spec.from_json(job.spec)),
        source_offset=source_bytes,
        accepted=job.accepted,
        attempts=state.attempts,
        error=_error(state),
        totals=totals_of(job.totals) if state.ended else None,
        warnings=job.totals.get("warnings", ()),
        created_at=time_of(job.created_at),
        started_at=time_of(job.started_at),
        ended_at=time_of(job.ended_at),
    )


def _error(state: State) -> pb.JobError | None:
    if state.failure is None:
        return None
    reason = state.failure.reason
    return pb.JobError(code=reason.code, reason=reason, message=state.failure.message, retryable=reason.retryable)


def totals_of(state: dict[str, Any]) -> pb.Totals:
    """Counts as an attempt reports them."""
    return pb.Totals(
        frames_in=state.get("frames_in", 0),
        frames_out=state.get("frames_out", 0),
        frames_resumed=state.get("frames_resumed", 0),
        stage_seconds=state.get("seconds", {}),
        duration_seconds=state.get("duration_seconds", 0.0),
        bytes=state.get("bytes", 0),
    )


def progress_of(job: Job, news: dict[str, Any], late: float | None) -> pb.Progress:
    """How far a job is, by its row and what its attempt says or, once ended, has said. late: of a live one, seconds."""
    said = news or job.totals
    return pb.Progress(
        percent=job.state.progress,
        totals=totals_of(said),
        warnings=said.get("warnings", ()),
        live_late_seconds=late,
    )


def time_of(seconds: float | None) -> Timestamp | None:
    """Unix seconds as a timestamp, to the microsecond."""
    if seconds is None:
        return None
    found = Timestamp()
    found.FromMicroseconds(round(seconds * 1e6))
    return found


def init_of(track: Track) -> pb.TrackInit:
    """The beginning of a track."""
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
    """Bytes of a fragment, from `start` on, in as many messages as they need."""
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
    """What a slow reader of a live log has lost."""
    fragment = dropped.fragment
    return pb.Dropped(track=fragment.track, segment=fragment.segment, fragment=fragment.number, frames=dropped.frames)


def model_of(slug: Slug, limits: Limits, unavailable: str | None) -> pb.Model:
    """A model with its limits."""
    longest = limits.longest(Spec(slug.slug)) or 0.0
    return pb.Model(
        slug=slug.slug,
        scales=slug.scales,
        longest=Duration(seconds=int(longest), nanos=round(longest % 1 * 1e9)),
        available=unavailable is None,
        unavailable_reason=unavailable or "",
    )


def cursors_of(cursors: Any) -> Cursors:  # noqa: ANN401 - a repeated field
    """What a client has of each track."""
    return {cursor.track: (cursor.segment, cursor.fragment) for cursor in cursors}
