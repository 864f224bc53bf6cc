"""From the name a user gives to a network that runs: slugs, content, and what is on this machine."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.core.model import Model

from . import per_frame
from .catalog import NETWORKS, SLUGS, Slug, full_name, slug_of
from .flashvsr import model as flashvsr
from .manifest import QUALITIES, Installed

CONTENTS = ("auto", "photo", "animation", "live")
"""What a network is for. Only who asks for live gets the light one: it approximates, to keep up with a source."""


class Sessions(Protocol):
    """A kind of session: how the networks that run in it are found on this machine and loaded."""

    def installed(self, network: str) -> Installed | None:
        """Describe a network that is on this machine; None where it is not."""
        ...

    def load(
        self, network: str, *, scale: int | None, quality: str, runtime: str, resumed: Collection[str] = ()
    ) -> Model:
        """Load a network; ModelError with the remedy where it is not on this machine. resumed: as in `registry.load`."""
        ...


SESSIONS: Mapping[str, Sessions] = {"flashvsr": flashvsr}
"""By a network's family. A family that is not named here takes every frame by itself."""


@dataclass(frozen=True, slots=True)
class Choice:
    """network: its name. note: a line for the user where a better one exists but is not used."""

    network: str
    note: str | None = None


def choose(name: str, content: str = "auto") -> Choice:
    """Choose the network for a slug or a network's name or short form: for content that asks for another, the heaviest here.

    Raises ModelError for an unknown name, SettingsError for an unknown content.
    """
    if content not in CONTENTS:
        raise SettingsError(f"`content` must be one of {', '.join(CONTENTS)}, got {content!r}")
    name = _named(name)
    slug = _slug(name)
    if name in slug.networks or content == "auto":
        return Choice(name if name in slug.networks else slug.networks[0])
    fitting = [network for network in slug.networks if NETWORKS[network].content == content]
    here = [network for network in fitting if is_here(network)]
    if here:
        return Choice(here[-1])
    default = slug.networks[0]
    if not fitting:
        return Choice(default, f"{slug.slug} has no light network; using {default}" if content == "live" else None)
    better = fitting[-1]
    return Choice(default, f"{better} is better for {content} but is not here (upres pull {better}); using {default}")


def installed(network: str) -> Installed | None:
    """Describe a network that is on this machine; None where it is not."""
    return _sessions(network).installed(network)


def is_here(network: str) -> bool:
    """Tell whether a network is on this machine."""
    return installed(network) is not None


def is_experimental(network: str) -> bool:
    """Tell whether nobody has reported yet that this network, as it is here, does what its authors' does."""
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
) -> tuple[Model, str | None]:
    """Load a model, and a line for the user where a better network exists; ModelError with the remedy where it is not here.

    name: a slug, a network, a short form of either, or a network of one's own in the cache. scale: for a model that offers
    several, its largest by default. resumed: the models of a run that is resumed, as its log names them: `runtime` auto then is
    what they ran on. Raises SettingsError naming what is not offered.
    """
    if quality not in QUALITIES:
        raise SettingsError(f"`quality` must be one of {', '.join(QUALITIES)}, got {quality!r}")
    name = _named(name, scale)
    wanted = scale_of(name, scale)
    choice, slug = choose(name, content), _slug(name)
    model = _sessions(choice.network).load(
        choice.network, scale=wanted, quality=quality, runtime=runtime, resumed=resumed
    )
    return model, choice.note or _warning(slug.slug, choice.network)


def lighter(name: str, scale: int, content: str = "auto") -> list[tuple[str, int, str]]:
    """List what may take a model's place where it is too slow, the heaviest first: the model, scale and content of each.

    The model's own default network, its light one, and those of models of a smaller scale. None are for what remembers frames.
    Raises as `choose`.
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
    """Give how many times a model upscales where `scale` is asked for, if anything; SettingsError where it does not offer that."""
    offered = scales_of(name, scale)
    if scale is not None and scale not in offered:
        model = _slug(_named(name, scale)).slug
        raise SettingsError(f"{model} upscales {' or '.join(map(str, offered))} times, not {scale} times")
    return scale or max(offered)


def scales_of(name: str, scale: int | None = None) -> tuple[int, ...]:
    """List how many times a model may upscale. scale: decides among networks where a short form means several."""
    return _slug(_named(name, scale)).scales


def _named(name: str, scale: int | None = None) -> str:
    """Find what a short form means; a network of one's own in the cache keeps its name."""
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
    """Find the slug that a name belongs to; a network that is only in the cache is one of its own."""
    try:
        return slug_of(name)
    except ModelError:
        facts = per_frame.installed(name)
        if facts is None:
            raise
        return Slug(name, (facts.scale,), 0, (name,))
