"""The container that a target's name implies, and the check that it supports the codec."""

from pathlib import Path

from upres.engine.core.errors import SettingsError
from upres.engine.encode.join.file import CONTAINERS
from upres.engine.encode.options import Encoder
from upres.engine.images.video import is_images

from .options import SUFFIXES


def container_of(target: str, encoder: Encoder, stdout_suffix: str) -> str:
    """Return the container of a target; for a name with an unknown suffix, mp4, which the later check of the target rejects.

    stdout_suffix: the suffix that stands for standard output. Raises SettingsError if the container does not support the codec.
    """
    if target != "-" and is_images(target):  # images need no container; this one is a placeholder
        return "matroska" if encoder.codec == "lossless" else "mp4"
    suffix = stdout_suffix if target == "-" else Path(target).suffix
    container = CONTAINERS.get(suffix.lower(), "mp4")
    if encoder.codec == "lossless" and container != "matroska":
        raise SettingsError(
            f"--lossless writes RGB H.264, which players support in .mkv only; name the output {Path(target).stem}.mkv"
        )
    _check_codec(container, target, encoder.within(container))
    return container


def encoder_of(target: str, encoder: Encoder, container: str) -> Encoder:
    """Return the encoder of a target; for images, which no video encoder writes, only whether they must be lossless."""
    if target == "-" or not is_images(target):
        return encoder.within(container)
    return Encoder("lossless" if encoder.codec == "lossless" else "auto", height=encoder.height)


def _check_codec(container: str, target: str, encoder: Encoder) -> None:
    """Raise SettingsError, listing the supported containers, if a container does not support the codec."""
    containers = encoder.facts.containers
    if container in containers:
        return
    names = [f"{Path(target).stem}{SUFFIXES[each]}" for each in containers]
    raise SettingsError(f"{SUFFIXES[container]} does not support {encoder.codec}; name the output {' or '.join(names)}")
