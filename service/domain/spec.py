"""What one job asks for, and everything that can be wrong with it before its source is looked at."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any, Literal
from urllib.parse import urlsplit

from upres.engine.core.errors import SettingsError
from upres.engine.core.model import Model
from upres.engine.core.text import counted, number
from upres.engine.decode.filters import PREFILTERS
from upres.engine.decode.info import Info
from upres.engine.encode.options import Encoder, resolve
from upres.engine.models.catalog import SLUGS
from upres.engine.models.registry import CONTENTS
from upres.engine.pipeline.options import Job

from .errors import InvalidError, TooLargeError

FORMATS = (
    *("mov", "mp4", "matroska", "webm", "mpegts", "mpeg", "mpegvideo", "avi", "asf", "ogg", "flv", "h264", "hevc"),
    *("dv", "gif", "apng", "rm"),
)  # libavformat's names of the containers that a service takes
MOST_CHAINED = 3  # models in a job
MOST_ECHOED = 40  # characters of a word that a message repeats
CODECS = (
    "auto",
    "h264",
    "hevc",
    "lossless",
)  # of results on a service, which are MP4 that browsers are sent while it is made
ENCODER_FIELDS = ("codec", "crf", "preset", "segment_seconds")
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
    """One request, as it came; `check` says what is wrong with it. streamed: the source is read while it arrives.

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


def check(spec: Spec, limits: Limits, unavailable: Mapping[str, str]) -> None:
    """Raise InvalidError that names every wrong field. unavailable: why slugs that are known cannot run here."""
    if problems := problems_of(spec, limits, unavailable):
        raise InvalidError(problems)


def problems_of(spec: Spec, limits: Limits, unavailable: Mapping[str, str]) -> dict[str, list[str]]:
    """Find what is wrong with each field; empty if nothing is."""
    problems: defaultdict[str, list[str]] = defaultdict(list)
    _check_model(spec, unavailable, problems)
    if spec.content not in CONTENTS:
        problems["content"].append(f"The content must be one of {', '.join(CONTENTS)}.")
    if unknown := [name[:40] for name in spec.prefilters if name not in PREFILTERS]:
        names, known = ", ".join(unknown[:8]), ", ".join(PREFILTERS)
        problems["prefilters"].append(f"There is no pre-filter {names}; there are {known}.")
    elif len(set(spec.prefilters)) < len(spec.prefilters):
        problems["prefilters"].append("A pre-filter can be given once only.")
    for problem in _encoder_problems(spec):
        name = problem.partition(" ")[0]
        problems[name if name in ENCODER_FIELDS else "codec"].append(f"{problem[0].upper()}{problem[1:]}.")
    _check_webhook(spec, limits, problems)
    if spec.live:
        _check_live(spec, limits, problems)
    if spec.step_down and not (spec.live and spec.when_slow == "drop"):
        problems["step_down"].append(
            "The step_down is for a live source whose late frames are left out: with when_slow drop."
        )
    if spec.live_source is not None:
        _check_live_source(spec, spec.live_source, limits, problems)
    return dict(problems)


def _encoder_problems(spec: Spec) -> list[str]:
    """Name what is wrong with the settings of the encoding; each starts with the name of its field.

    Text is cut first: it is echoed, and gRPC's trailers hold 8 KiB.
    """
    problems, known = [], spec.codec in CODECS
    if not known:
        problems.append(f"codec must be {', '.join(CODECS[:-1])} or {CODECS[-1]}, got {spec.codec[:MOST_ECHOED]!r}")
    try:
        replace(spec, codec=spec.codec if known else "auto", preset=spec.preset[:MOST_ECHOED]).encoder()
    except SettingsError as error:
        problems += re.sub(r"`(\w+)`", _field, str(error)).split("; ")
    return problems


def _field(setting: re.Match[str]) -> str:
    """Name the field of a setting that the engine names in quotes."""
    return "segment_seconds" if setting[1] == "segment" else setting[1]


def _check_live(spec: Spec, limits: Limits, problems: defaultdict[str, list[str]]) -> None:
    if not spec.streamed:
        problems["live"].append("A live source is sent by Upscale; a job has all of its source before it starts.")
    if spec.split:
        problems["split"].append("A live source is not split: it has one encoder, and no limit of length by its model.")
    if spec.segment_seconds > limits.live_segment_seconds:
        longest = number(limits.live_segment_seconds)
        problems["segment_seconds"].append(f"The segment_seconds of a live source must be at most {longest}.")


def _check_live_source(spec: Spec, name: str, limits: Limits, problems: defaultdict[str, list[str]]) -> None:
    if not spec.live:
        problems["live_source"].append("A live_source is for a live source only.")
    if name not in limits.live_sources:
        there = f"there are {', '.join(limits.live_sources)}" if limits.live_sources else "the operator allows none"
        problems["live_source"].append(f"There is no live_source {name[:MOST_ECHOED]}; {there}.")


def _check_model(spec: Spec, unavailable: Mapping[str, str], problems: defaultdict[str, list[str]]) -> None:
    field = "models" if spec.models else "model"
    for name in dict.fromkeys(spec.names):
        if name not in SLUGS:
            problems[field].append(f"The selected {field[:5]} is invalid; there are {', '.join(SLUGS)}.")
        elif name in unavailable:
            problems[field].append(f"The model {name} cannot run here: {unavailable[name]}.")
    if spec.models:
        _check_chain(spec, problems)
    if spec.scale is not None and not {*spec.names} - {*SLUGS}:
        _check_scale(spec, spec.scale, problems)


def _check_chain(spec: Spec, problems: defaultdict[str, list[str]]) -> None:
    if spec.model != spec.models[0]:
        problems["model"].append("The model must be the first of the models, or be left out.")
    if len(spec.models) > MOST_CHAINED:
        problems["models"].append(f"There may be at most {MOST_CHAINED} models.")
    if spec.live and len(spec.models) > 1:
        problems["models"].append("A live source takes one model.")


def _check_scale(spec: Spec, scale: int, problems: defaultdict[str, list[str]]) -> None:
    ranges = [SLUGS[name].scales for name in spec.names if len(SLUGS[name].scales) > 1]
    if not ranges:
        fixed = f"is fixed at {spec.resolved_scale() if spec.models else SLUGS[spec.model].scales[0]}"
        problems["scale"].append(f"The scale of {' + '.join(spec.names)} {fixed}; leave it out.")
    for scales in ranges:
        if scale not in scales:
            problems["scale"].append(f"The scale must be between {scales[0]} and {scales[-1]}.")


def _check_webhook(spec: Spec, limits: Limits, problems: defaultdict[str, list[str]]) -> None:
    if spec.webhook_url is not None:
        schemes = ("https", "http") if limits.http_webhooks else ("https",)
        if not _is_url(spec.webhook_url, schemes) or len(spec.webhook_url) > 2048:
            problems["webhook_url"].append("The webhook url must be an https URL of at most 2048 characters.")
    if spec.webhook_secret is not None:
        if spec.webhook_url is None:
            problems["webhook_secret"].append("The webhook secret needs a webhook url.")
        if not 32 <= len(spec.webhook_secret) <= 255:
            problems["webhook_secret"].append("The webhook secret must have 32 to 255 characters.")


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in schemes and bool(url.hostname)
    except ValueError:  # brackets that are no IPv6 address
        return False


def check_source(info: Info, spec: Spec, limits: Limits) -> None:
    """Raise TooLargeError that names every limit a source exceeds. Its length counts only where its container tells it."""
    problems = [*_unencodable(info, spec)]
    low, high = SIDES
    if not all(low <= side <= high for side in (info.shape.width, info.shape.height)):
        problems.append(
            f"The video must measure {low} to {high} pixels a side, not {info.shape.width}x{info.shape.height}."
        )
    longest = limits.longest(spec)
    if longest is not None and info.seconds is not None and info.seconds > longest + 0.1:
        problems.append(too_long(spec, longest, info.seconds))
    if (tracks := 1 + len(info.audio) + len(info.subtitles)) > limits.tracks:
        problems.append(f"The video must not have more than {limits.tracks} tracks, it has {tracks}.")
    if problems:
        raise TooLargeError(" ".join(problems))


def too_long(spec: Spec, longest: float, seconds: float | None = None) -> str:
    """Say that a source is too long, and what helps. seconds: its length, where its container tells it."""
    names = " + ".join(spec.names)
    it_has = "" if seconds is None else f", it has {seconds:.1f}"
    most = counted(longest, "second")
    if spec.live:
        return f"The live source must not be longer than {most}{it_has}; the operator's setting is live_seconds."
    return (
        f"The video must not be longer than {most} for {names}{it_has}. With `split` it is cut at its shots and "
        "may have any length; the operator's settings are limits and clip_seconds."
    )


def _unencodable(info: Info, spec: Spec) -> list[str]:
    """Name a size of the result that no encoder takes; what is wrong with the request itself is named elsewhere."""
    known = not {*spec.names} - {*SLUGS}
    if not known or any(scale not in SLUGS[name].scales for name, scale in spec.chain()) or _encoder_problems(spec):
        return []
    scale = spec.resolved_scale()
    upscaled = replace(info.shape, width=info.shape.width * scale, height=info.shape.height * scale)
    try:
        resolve(spec.encoder(), upscaled)
    except SettingsError as error:
        return [f"{str(error)[0].upper()}{str(error)[1:]}."]
    return []
