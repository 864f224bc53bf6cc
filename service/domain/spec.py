"""Request of a job, and the operator's limits for requests. `checks` validates requests."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any, Literal

from upres.engine.core.model import Model
from upres.engine.encode.options import Encoder
from upres.engine.models.catalog import SLUGS
from upres.engine.pipeline.options import Job

FORMATS = (
    *("mov", "mp4", "matroska", "webm", "mpegts", "mpeg", "mpegvideo", "avi", "asf", "ogg", "flv", "h264", "hevc"),
    *("dv", "gif", "apng", "rm"),
)  # libavformat's names of the containers that the service accepts
MOST_CHAINED = 3  # models of one job
SIDES = (16, 4096)  # smallest and largest width and height of a source in pixels
PROFILES: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "deapi": {name: slug.seconds for name, slug in SLUGS.items()},
}
"""Named sets of limits on a clip's length, in seconds by model: none, or those of the hosted API."""

Delivery = Literal["segments", "frames"]
WhenSlow = Literal["wait", "drop"]


@dataclass(frozen=True, slots=True)
class Spec:
    """A request as received; `checks` validates it. streamed: the source is processed while it is uploaded.

    models: several models to apply in order; `model` is then the first of them. scale: for models that offer several.

    live: the result is not stored, and the job does not end by itself. when_slow: whether to wait or to drop frames when the models
    are slower than the source, or the client is slower than the models. live_source: the name of one of the operator's streams,
    which the server pulls in place of an upload. step_down: switch to a lighter network while the requested one is too slow.
    """

    model: str
    models: tuple[str, ...] = ()
    scale: int | None = None
    content: str = "auto"
    prefilters: tuple[str, ...] = ()
    codec: str = "auto"
    crf: int = 18
    preset: str = "fast"
    segment_seconds: float = 2.0
    split: bool = False
    tonemap: bool = False
    delivery: Delivery = "segments"
    live: bool = False
    when_slow: WhenSlow = "wait"
    live_source: str | None = None
    step_down: bool = False
    streamed: bool = False
    webhook_url: str | None = None
    webhook_secret: str | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Spec":
        """Create a spec from the values of `as_json`."""
        lists = {name: tuple(values.get(name, ())) for name in ("models", "prefilters")}
        return cls(**{**values, **lists})

    def as_json(self) -> dict[str, Any]:
        """Return the spec as JSON values."""
        return {**asdict(self), "models": list(self.models), "prefilters": list(self.prefilters)}

    def job(self, model: Model, *, nvenc: bool = False) -> Job:
        """Return the engine's job. nvenc: encode on the GPU if possible."""
        return Job(
            (model,),
            self.encoder(nvenc=nvenc),
            prefilters=self.prefilters,
            split=self.split,
            tonemap=self.tonemap,
            keep_up=self.live and self.when_slow == "drop",
        )

    def encoder(self, *, nvenc: bool = False) -> Encoder:
        """Return the encoder settings of the result.

        nvenc: encode on the GPU, except lossless, which NVENC does not support, and files delivered frame by frame, which a resumed
        run must reproduce byte for byte.
        """
        reproducible = self.delivery == "frames" and not self.live
        return Encoder(
            codec=self.codec,  # type: ignore[arg-type]  # checked by Encoder itself
            crf=self.crf,
            preset=self.preset,
            segment_seconds=self.segment_seconds,
            fragment="frame" if self.delivery == "frames" else "segment",
            live=self.live,
            nvenc=nvenc and self.codec != "lossless" and self.crf > 0 and not reproducible,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The slugs of all models, in order."""
        return self.models or (self.model,)

    def chain(self) -> list[tuple[str, int]]:
        """List the models, each with the requested scale, or its smallest."""
        return [(name, self._scale_of(name)) for name in self.names]

    def resolved_scale(self) -> int:
        """Return the total scale of all models."""
        return prod(scale for _, scale in self.chain())

    def _scale_of(self, name: str) -> int:
        scales = SLUGS[name].scales
        return self.scale if self.scale and (not self.models or len(scales) > 1) else scales[0]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for one request, set by the operator. seconds: longest clip by slug; no limit for others. tracks: of the source.

    http_webhooks: whether webhooks may use plain HTTP. live_seconds: longest live source; None for no limit.
    live_segment_seconds: longest segment of a live job, which its ring has to hold. live_sources: names of the streams that the
    server can pull.
    """

    source_bytes: int = 52_428_800
    seconds: Mapping[str, float] = field(default_factory=dict)
    tracks: int = 16
    http_webhooks: bool = False
    live_seconds: float | None = None
    live_segment_seconds: float = 5.0
    live_sources: Sequence[str] = ()

    def longest(self, spec: Spec) -> float | None:
        """Return the longest source of a job in seconds; None for no limit, as for a job that is split at its shots.

        Limits by model are for clips; live sources have a separate limit.
        """
        if spec.live:
            return self.live_seconds
        limits = [self.seconds[name] for name in spec.names if name in self.seconds]
        return min(limits) if limits and not spec.split else None
