"""What one job asks for, and what the operator takes. What is wrong with a request: `checks`."""

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
)  # libavformat's names of the containers that a service takes
MOST_CHAINED = 3  # models in a job
SIDES = (16, 4096)  # pixels of the source's sides
PROFILES: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "deapi": {name: slug.seconds for name, slug in SLUGS.items()},
}
"""Limits of a clip's length by what they are called: none, or the hosted API's, in seconds by model."""

Delivery = Literal["segments", "frames"]
WhenSlow = Literal["wait", "drop"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One request, as it came; `checks` says what is wrong with it. streamed: the source is read while it arrives.

    models: several, one after the other; model is then the first of them. scale: of those that offer several.

    live: it is not kept, and does not end by itself. when_slow: what happens when the models make less than comes, or the client
    takes less than is made. live_source: the name of one of the operator's streams, which the server pulls; the client sends none.
    step_down: a lighter network works while the one asked for is too slow.
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
        """Restore what `as_json` gave."""
        lists = {name: tuple(values.get(name, ())) for name in ("models", "prefilters")}
        return cls(**{**values, **lists})

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {**asdict(self), "models": list(self.models), "prefilters": list(self.prefilters)}

    def job(self, model: Model, *, nvenc: bool = False) -> Job:
        """Give the engine's job. nvenc: a GPU encodes it, where it can."""
        return Job(
            (model,),
            self.encoder(nvenc=nvenc),
            prefilters=self.prefilters,
            split=self.split,
            tonemap=self.tonemap,
            keep_up=self.live and self.when_slow == "drop",
        )

    def encoder(self, *, nvenc: bool = False) -> Encoder:
        """Gather how the result is encoded. nvenc: by a GPU, but for what is lossless, which NVENC has not, and frames that a
        resumed run must give again to the byte: those of a file that are delivered one by one."""
        again = self.delivery == "frames" and not self.live
        return Encoder(
            codec=self.codec,  # type: ignore[arg-type]  # checked by Encoder itself
            crf=self.crf,
            preset=self.preset,
            segment_seconds=self.segment_seconds,
            fragment="frame" if self.delivery == "frames" else "segment",
            live=self.live,
            nvenc=nvenc and self.codec != "lossless" and self.crf > 0 and not again,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The slugs of all models, one after the other."""
        return self.models or (self.model,)

    def chain(self) -> list[tuple[str, int]]:
        """List the models with their scales: the one asked for, or the model's smallest."""
        return [(name, self._scale_of(name)) for name in self.names]

    def resolved_scale(self) -> int:
        """Give the scale of all models together."""
        return prod(scale for _, scale in self.chain())

    def _scale_of(self, name: str) -> int:
        scales = SLUGS[name].scales
        return self.scale if self.scale and (not self.models or len(scales) > 1) else scales[0]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator takes. seconds: longest clip by slug; of others there is no limit. tracks: of the source.

    http_webhooks: whether webhooks may go in the clear. live_seconds: longest live source; None, the default, sets no limit.
    live_segment_seconds: longest segment of one, which a ring has to hold. live_sources: names of those that the server pulls.
    """

    source_bytes: int = 52_428_800
    seconds: Mapping[str, float] = field(default_factory=dict)
    tracks: int = 16
    http_webhooks: bool = False
    live_seconds: float | None = None
    live_segment_seconds: float = 5.0
    live_sources: Sequence[str] = ()

    def longest(self, spec: Spec) -> float | None:
        """Give the seconds of source that may be upscaled in one job; None where shots are cut apart, and for no model.

        Limits by model are for clips; a live source has one of its own.
        """
        if spec.live:
            return self.live_seconds
        limits = [self.seconds[name] for name in spec.names if name in self.seconds]
        return min(limits) if limits and not spec.split else None
