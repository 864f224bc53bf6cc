"""Validation of requests, and of their sources once they have been probed."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from upres.engine.core.errors import SettingsError
from upres.engine.core.text import counted, number
from upres.engine.decode.filters import PREFILTERS
from upres.engine.decode.info import Info
from upres.engine.encode.options import resolve
from upres.engine.models.catalog import NETWORKS, SLUGS, full_name, slug_of
from upres.engine.models.registry import CONTENTS

from .errors import InvalidError, TooLargeError, TooSmallError
from .spec import MOST_CHAINED, SIDES, Limits, Spec

CODECS = ("auto", "h264", "hevc", "lossless")  # of results: MP4 that is streamed to browsers while it is encoded
ENCODER_FIELDS = ("codec", "crf", "preset", "segment_seconds")
MOST_NAMED = 100  # characters of the name of a source's file that are kept
MOST_ECHOED = 40  # characters of a client's value that a message repeats
LONGEST_URL = 2048
SECRET_CHARACTERS = (32, 255)


def check(spec: Spec, limits: Limits, unavailable: Mapping[str, str]) -> None:
    """Raise InvalidError naming every invalid field. unavailable: reason by slug for models that cannot run here."""
    if problems := problems_of(spec, limits, unavailable):
        raise InvalidError(problems)


def problems_of(spec: Spec, limits: Limits, unavailable: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the problems of each invalid field; empty if the request is valid."""
    problems: defaultdict[str, list[str]] = defaultdict(list)
    _check_model(spec, unavailable, problems)
    if spec.content not in CONTENTS:
        problems["content"].append(f"The content must be one of {', '.join(CONTENTS)}.")
    if unknown := [name[:MOST_ECHOED] for name in spec.prefilters if name not in PREFILTERS]:
        names, known = ", ".join(unknown[:8]), ", ".join(PREFILTERS)
        problems["prefilters"].append(f"There is no pre-filter {names}; there are {known}.")
    elif len(set(spec.prefilters)) < len(spec.prefilters):
        problems["prefilters"].append("A pre-filter can be given only once.")
    for problem in _encoder_problems(spec):
        name = problem.partition(" ")[0]
        problems[name if name in ENCODER_FIELDS else "codec"].append(f"{problem[0].upper()}{problem[1:]}.")
    _check_webhook(spec, limits, problems)
    if spec.live:
        _check_live(spec, limits, problems)
    if spec.step_down and not (spec.live and spec.when_slow == "drop"):
        problems["step_down"].append(
            "The step_down is only for a live source whose late frames are dropped: set when_slow to drop."
        )
    if spec.live_source is not None:
        _check_live_source(spec, spec.live_source, limits, problems)
    return dict(problems)


def _encoder_problems(spec: Spec) -> list[str]:
    """List the problems of the encoder settings, each starting with the name of its field.

    Values are truncated first: messages repeat them, and gRPC's trailers hold 8 KiB.
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
    """Return the request's field for a setting that the engine's message names in quotes."""
    return "segment_seconds" if setting[1] == "segment" else setting[1]


def _check_live(spec: Spec, limits: Limits, problems: defaultdict[str, list[str]]) -> None:
    if not spec.streamed:
        problems["live"].append(
            "A live source is sent by Upscale; other jobs start once all of the source is received."
        )
    if spec.split:
        problems["split"].append("A live source is not split: it has one encoder, and no length limit by model.")
    if spec.segment_seconds > limits.live_segment_seconds:
        longest = number(limits.live_segment_seconds)
        problems["segment_seconds"].append(f"The segment_seconds of a live source must be at most {longest}.")


def _check_live_source(spec: Spec, name: str, limits: Limits, problems: defaultdict[str, list[str]]) -> None:
    if not spec.live:
        problems["live_source"].append("A live_source requires a live source.")
    if name not in limits.live_sources:
        known = f"there are {', '.join(limits.live_sources)}" if limits.live_sources else "the operator allows none"
        problems["live_source"].append(f"There is no live_source {name[:MOST_ECHOED]}; {known}.")


def _offered(name: str, unavailable: Mapping[str, str]) -> str:
    """Return which models a client can select here instead of an unknown one, and what a name of a network belongs to."""
    offered = ", ".join(slug for slug in SLUGS if slug not in unavailable) or "none that this server can run"
    message = f"there is no {name[:MOST_ECHOED]}, there are {offered}."
    network = NETWORKS.get(full_name(name))
    if network is None or network.content not in CONTENTS:
        return message
    return f"{message} {network.name} is a network of {slug_of(network.name).slug} for `content` {network.content}."


def _check_model(spec: Spec, unavailable: Mapping[str, str], problems: defaultdict[str, list[str]]) -> None:
    field = "models" if spec.models else "model"
    for name in dict.fromkeys(spec.names):
        if name not in SLUGS:
            problems[field].append(f"The selected model is invalid; {_offered(name, unavailable)}")
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
        if not _is_url(spec.webhook_url, schemes) or len(spec.webhook_url) > LONGEST_URL:
            problems["webhook_url"].append(f"The webhook url must be an https URL of at most {LONGEST_URL} characters.")
    if spec.webhook_secret is not None:
        if spec.webhook_url is None:
            problems["webhook_secret"].append("The webhook secret needs a webhook url.")
        least, most = SECRET_CHARACTERS
        if not least <= len(spec.webhook_secret) <= most:
            problems["webhook_secret"].append(f"The webhook secret must have {least} to {most} characters.")


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in schemes and bool(url.hostname)
    except ValueError:  # brackets without an IPv6 address
        return False


def check_source(info: Info, spec: Spec, limits: Limits) -> None:
    """Raise TooSmallError, or TooLargeError naming every limit that a source exceeds.

    Its length is checked only if its container states it.
    """
    low, high = SIDES
    sides, measures = (info.shape.width, info.shape.height), f"not {info.shape.width}x{info.shape.height}"
    if min(sides) < low:
        raise TooSmallError(f"The video must measure at least {low} pixels a side, {measures}.")
    problems = [*_unencodable(info, spec)]
    if max(sides) > high:
        problems.append(f"The video must measure at most {high} pixels a side, {measures}.")
    longest = limits.longest(spec)
    if longest is not None and info.seconds is not None and info.seconds > longest + 0.1:
        problems.append(too_long(spec, longest, info.seconds))
    if (tracks := 1 + len(info.audio) + len(info.subtitles)) > limits.tracks:
        problems.append(f"The video must not have more than {limits.tracks} tracks, it has {tracks}.")
    if problems:
        raise TooLargeError(" ".join(problems))


def too_long(spec: Spec, longest: float, seconds: float | None = None) -> str:
    """Return the message for a source that is too long, with a remedy. seconds: its length, if its container states it."""
    names = " + ".join(spec.names)
    it_has = "" if seconds is None else f", it has {seconds:.1f}"
    most = counted(longest, "second")
    if spec.live:
        return f"The live source must not be longer than {most}{it_has}; the operator's setting is live_seconds."
    return (
        f"The video must not be longer than {most} for {names}{it_has}. With `split` it is cut at its shots and "
        "may have any length; the operator can change the settings limits and clip_seconds."
    )


def _unencodable(info: Info, spec: Spec) -> list[str]:
    """List the problem if no encoder accepts the result's size; empty if the request itself is invalid."""
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


def file_name(path: str | None) -> str | None:
    """Return the last part of a client's path, without control characters and cut to MOST_NAMED; None if nothing is left."""
    last = re.split(r"[/\\]", path or "")[-1]
    return "".join(filter(str.isprintable, last))[:MOST_NAMED] or None
