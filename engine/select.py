"""From the name a user gives to a network that runs: slugs, content, and what is on this machine."""

from dataclasses import dataclass

from . import manifest, realesrgan
from .catalog import NETWORKS, SLUGS, slug_of
from .errors import ModelError, SettingsError
from .model import Model
from .runtime import Quality

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
        manifest.find(network)
    except ModelError:
        return False
    return True


def load(
    name: str, *, content: str = "auto", quality: Quality = "high", runtime: str = "auto"
) -> tuple[Model, str | None]:
    """A model ready to run, and a line for the user where a better network exists; ModelError with the remedy where not."""
    choice = choose(name, content)
    if NETWORKS[choice.network].family == "flashvsr":
        raise ModelError(
            f"{SLUGS['FlashVSR_Tiny'].slug} has no graphs on this machine; its weights are yours to export"
        )
    return realesrgan.load(choice.network, quality=quality, runtime_name=runtime), choice.note
