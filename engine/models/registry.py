"""Resolution of a model's name to a loaded network: slugs, content types, and what is installed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.core.model import Model

from . import per_frame, tuned
from .catalog import NETWORKS, SLUGS, Slug, full_name, slug_of
from .flashvsr import model as flashvsr
from .manifest import QUALITIES, Installed

CONTENTS = ("auto", "photo", "animation", "live")
"""Content types. The light, approximating network that keeps up with live sources is only used if `live` is requested."""


class Sessions(Protocol):
    """A kind of session: it finds the networks of some families on this machine and loads them."""

    def installed(self, network: str) -> Installed | None:
        """Describe a network on this machine; None if it is not installed."""
        ...

    def load(
        self,
        network: str,
        *,
        scale: int | None,
        quality: str,
        runtime: str,
        resumed: Collection[str] = (),
        frame: tuple[int, int] | None = None,
    ) -> Model:
        """Load a network. Raises ModelError with the remedy if it is not installed. resumed, frame: as in `registry.load`."""
        ...


SESSIONS: Mapping[str, Sessions] = {"flashvsr": flashvsr}
"""Session kinds by the network's family. Families not listed here upscale every frame independently."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen network. network: its name. note: message for the user if a better network exists but is not used."""

    network: str
    note: str | None = None


def choose(name: str, content: str = "auto") -> Choice:
    """Choose a network by slug, name or short form. If `content` requires another network, choose the heaviest installed one.

    Raises ModelError for an unknown name and SettingsError for an unknown content.
    """
    check_content(content)
    name = _named(name)
    slug = _slug(name)
    if name in slug.networks or content == "auto":
        return Choice(name if name in slug.networks else slug.networks[0])
    fitting = [network for network in slug.networks if NETWORKS[network].content == content]
    available = [network for network in fitting if is_installed(network)]
    if available:
        return Choice(available[-1])
    default = slug.networks[0]
    if not fitting:
        return Choice(default, f"{slug.slug} has no light network; using {default}" if content == "live" else None)
    better = fitting[-1]
    return Choice(default, f"{better} is better for {content} but is not here (upres pull {better}); using {default}")


def check_content(content: str) -> None:
    """Raise SettingsError for an unknown content type."""
    if content not in CONTENTS:
        raise SettingsError(f"`content` must be one of {', '.join(CONTENTS)}, got {content!r}")


def installed(network: str) -> Installed | None:
    """Describe a network on this machine; None if it is not installed."""
    return _sessions(network).installed(network)


def is_installed(network: str) -> bool:
    """Report whether a network is installed on this machine."""
    return installed(network) is not None


def is_experimental(network: str) -> bool:
    """Report whether it is still unconfirmed that the installed network's results match its authors' implementation."""
    facts = installed(network)
    return NETWORKS[network].experimental if facts is None else facts.experimental


def load(
    name: str,
    *,
    content: str = "auto",
    quality: str = "high",
    runtime: str = "auto",
    scale: int | None = None,
    resumed: Collection[str] = (),
    frame: tuple[int, int] | None = None,
) -> tuple[Model, str | None]:
    """Load a model; also return a message for the user if a better network exists. Raises ModelError if it is not installed.

    name: a slug, a network, a short form of either, or a custom network in the cache. scale: for a model with several scales; the
    largest by default. resumed: the models of a run that is resumed, as recorded in its log; `runtime` auto then selects the
    runtime they ran on. frame: width and height of the frames, if known, for which measurements of `upres tune` have to hold.
    Raises SettingsError for unsupported values.
    """
    if quality not in QUALITIES:
        raise SettingsError(f"`quality` must be one of {', '.join(QUALITIES)}, got {quality!r}")
    name = _named(name, scale)
    factor = scale_of(name, scale)
    choice, slug = choose(name, content), _slug(name)
    model = _sessions(choice.network).load(
        choice.network, scale=factor, quality=quality, runtime=runtime, resumed=resumed, frame=frame
    )
    return model, choice.note or _warning(slug.slug, choice.network)


def is_tuned(name: str, content: str, scale: int | None, frame: tuple[int, int] | None) -> bool:
    """Report whether a measurement of `upres tune` would choose the runtime of a model. Parameters as for `load`."""
    network = choose(_named(name, scale), content).network
    return _sessions(network) is per_frame and tuned.decides(network, frame)


def lighter(name: str, scale: int, content: str = "auto") -> list[tuple[str, int, str]]:
    """List the alternatives to a model that is too slow, heaviest first, as (model, scale, content).

    These are the model's default network, its light one, and those of models with a smaller scale. Models that remember frames
    have no alternatives. Raises the same errors as `choose`.
    """
    name = _named(name, scale)
    network, slug = choose(name, content).network, _slug(name)
    if _sessions(network) is not per_frame:
        return []
    is_light = _is_light(network)
    default = [(slug.slug, scale, "auto")] if network != slug.networks[0] and not is_light else []
    others = [each for each in SLUGS.values() if each.scales[0] <= scale and any(map(_is_light, each.networks))]
    return [*default, *((each.slug, each.scales[0], "live") for each in others if not (is_light and each == slug))]


def scale_of(name: str, scale: int | None = None) -> int:
    """Return the factor by which a model upscales for a requested `scale`. Raises SettingsError if it is not supported."""
    offered = scales_of(name, scale)
    if scale is not None and scale not in offered:
        model = _slug(_named(name, scale)).slug
        raise SettingsError(f"{model} upscales {' or '.join(map(str, offered))} times, not {scale} times")
    return scale or max(offered)


def scales_of(name: str, scale: int | None = None) -> tuple[int, ...]:
    """List the supported scales of a model. scale: selects among networks if a short form is ambiguous."""
    return _slug(_named(name, scale)).scales


def _named(name: str, scale: int | None = None) -> str:
    """Expand a short form; a custom network in the cache keeps its name."""
    return name if per_frame.installed(name) is not None else full_name(name, scale)


def _warning(slug: str, network: str) -> str | None:
    facts = installed(network)
    if facts is None or not facts.experimental:
        return None
    return f"{slug} is experimental: no owner of its trained weights has reported on this export yet"


def _is_light(network: str) -> bool:
    return network in NETWORKS and NETWORKS[network].content == "live"


def _sessions(network: str) -> Sessions:
    family = NETWORKS[network].family if network in NETWORKS else ""
    return SESSIONS.get(family, per_frame)


def _slug(name: str) -> Slug:
    """Return the slug that a name belongs to; a network that is only in the cache forms its own."""
    try:
        return slug_of(name)
    except ModelError:
        facts = per_frame.installed(name)
        if facts is None:
            raise
        return Slug(name, (facts.scale,), 0, (name,))
