"""The container that a target's name asks for, and whether it takes the codec."""

from pathlib import Path

from upres.engine.core.errors import SettingsError
from upres.engine.encode.join.file import CONTAINERS
from upres.engine.encode.options import Encoder
from upres.engine.images.video import is_images

from .options import SUFFIXES


def container_of(target: str, encoder: Encoder, stdout_suffix: str) -> str:
    """Choose the container of a target; for a name without one, one that the check of the target then refuses.

    stdout_suffix: as the name of standard output would end. Raises SettingsError where the codec does not go into it.
    """
    if target != "-" and is_images(target):  # which need none
        return "matroska" if encoder.codec == "lossless" else "mp4"
    suffix = stdout_suffix if target == "-" else Path(target).suffix
    container = CONTAINERS.get(suffix.lower(), "mp4")
    if encoder.codec == "lossless" and container != "matroska":
        raise SettingsError(
            f"--lossless writes RGB H.264, which players know in .mkv only; name the output {Path(target).stem}.mkv"
        )
    _check_takes(container, target, encoder.within(container))
    return container


def encoder_of(target: str, encoder: Encoder, container: str) -> Encoder:
    """Choose the encoder of a target: for images, which none encodes, only what says whether they lose something."""
    if target == "-" or not is_images(target):
        return encoder.within(container)
    return Encoder("lossless" if encoder.codec == "lossless" else "auto", height=encoder.height)


def _check_takes(container: str, target: str, encoder: Encoder) -> None:
    """Raise SettingsError that says which containers take the codec, where this one does not."""
    containers = encoder.facts.containers
    if container in containers:
        return
    names = [f"{Path(target).stem}{SUFFIXES[each]}" for each in containers]
    raise SettingsError(f"{encoder.codec} does not go into {SUFFIXES[container]}; name {' or '.join(names)}")
