"""From the name a user gives to a network that runs: slugs, content, and what is on this machine."""

from dataclasses import dataclass

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.core.model import Model
from upres.engine.models.flashvsr import manifest as flashvsr_manifest
from upres.engine.models.flashvsr import model as flashvsr
from upres.engine.runtime.base import Device, Quality

from . import manifest, per_frame
from .catalog import NETWORKS, slug_of

CONTENTS = ("auto", "photo", "animation")


@dataclass(frozen=True, slots=True)
class Choice:
    """network: its name. note: a line for the user where a better one exists but is not used."""

    network: str
    note: str | None = None


def choose(name: str, content: str = "auto") -> Choice:
    """The network for a slug or a network's own name: for content that asks for another, the heaviest that is here.

    Raises ModelError for an unknown name, SettingsError for an unknown content.
    """
    if content not in CONTENTS:
        raise SettingsError(f"content must be one of {', '.join(CONTENTS)}, got {content!r}")
    slug = slug_of(name)
    if name in NETWORKS or content == "auto":
        return Choice(name if name in NETWORKS else slug.networks[0])
    fitting = [network for network in slug.networks if NETWORKS[network].content == content]
    here = [network for network in fitting if is_here(network)]
    if here:
        return Choice(here[-1])
    default = slug.networks[0]
    if not fitting:
        return Choice(default)
    return Choice(
        default, f"{fitting[-1]} is better for {content} but is not here (upres pull {fitting[-1]}); using {default}"
    )


def is_here(network: str) -> bool:
    """Whether a network's graph is on this machine."""
    try:
        if NETWORKS[network].family == "flashvsr":
            flashvsr_manifest.read(flashvsr_manifest.find(network))
        else:
            manifest.find(network)
    except ModelError:
        return False
    return True


def is_experimental(network: str) -> bool:
    """Whether nobody has reported yet that this network, as it is here, does what its authors' does."""
    if NETWORKS[network].family != "flashvsr":
        return False
    return not is_here(network) or flashvsr_manifest.read(flashvsr_manifest.find(network)).experimental


def load(
    name: str,
    *,
    content: str = "auto",
    quality: Quality = "high",
    runtime: str = "auto",
    scale: int | None = None,
) -> tuple[Model, str | None]:
    """A model ready to run, and a line for the user where a better network exists; ModelError with the remedy where not.

    scale: for a model that offers several, its largest by default; SettingsError where it does not offer this one.
    """
    choice = choose(name, content)
    slug = slug_of(name)
    if scale is not None and scale not in slug.scales:
        offered = " or ".join(map(str, slug.scales))
        raise SettingsError(f"{slug.slug} enlarges {offered} times, not {scale} times")
    if NETWORKS[choice.network].family == "flashvsr":
        device: Device = "cuda" if runtime == "cuda" else "cpu"
        model = flashvsr.load(choice.network, scale=scale or max(slug.scales), device=device)
        note = "FlashVSR is experimental: no owner of its trained weights has reported on this export yet"
        return model, note if model.manifest.experimental else None
    return per_frame.load(choice.network, quality=quality, runtime_name=runtime), choice.note
