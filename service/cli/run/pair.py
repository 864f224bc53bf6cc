"""A source and its target, and the names that results have."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlsplit

from upres.engine.core.errors import SettingsError
from upres.engine.core.text import number
from upres.engine.decode.numbered import USUAL_RATE, ImageSequence
from upres.engine.decode.source import Source, kind_of
from upres.engine.images.formats import Format, is_image_name, usual_suffix
from upres.engine.images.recognize import still_format
from upres.engine.images.video import is_images

from .options import Suffixes
from .piped import Piped


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and its target; None is a name beside the source that says how often it was upscaled.

    rate: of numbered images, where one was named. image: the format of a source that is one image which does not move.
    piped: standard input, which `-` is. at: the second of the one frame that is wanted of a video, as an image.
    """

    source: str
    target: str | None
    rate: Fraction | None = None
    image: Format | None = None
    piped: Piped | None = None
    at: Fraction | None = None

    @classmethod
    def of(cls, source: str, at: Fraction | None = None) -> "Pair":
        """Look at what a source is; it gets its target later. An image has no time `at`."""
        piped = Piped.look() if source == "-" else None
        image = piped.image if piped else still_format(source)
        return cls(source, None, image=image, piped=piped, at=None if image else at)

    def opened(self) -> Source:
        """Give what the engine opens; SettingsError where a rate is named for anything but numbered images."""
        numbered = self.source != "-" and kind_of(self.source) == "sequence"
        if self.rate is not None and not numbered:
            raise SettingsError(
                f"--rate is for numbered images, frame_%05d.png, and {self.source} has a rate of its own"
            )
        if self.piped is not None:
            return self.piped.source
        return ImageSequence(self.source, self.rate or USUAL_RATE) if numbered else self.source

    @property
    def path(self) -> Path:
        """Give the source's path, or the name in this folder that it would have been downloaded to."""
        if self.source == "-":
            return Path("stdin")
        if kind_of(self.source) in ("file", "sequence"):
            return Path(self.source)
        return Path(Path(unquote(urlsplit(self.source).path)).name or "video")

    def timed(self, name: str) -> str:
        """Add to a name the time of the frame that is wanted, so that frames of a video do not get the same one."""
        return name if self.at is None else f"{name}_{number(self.at)}s"

    def suffix(self, videos: Suffixes) -> str:
        """Give the suffix of the result: images stay what they are."""
        own = self.path.suffix
        if self.image is not None:
            return own if is_image_name(self.path) else usual_suffix(self.image)
        if self.at is not None:
            return ".png"
        if own.lower() == ".png" and kind_of(self.source) == "file":  # it moves
            return ".apng"
        return own if is_images(self.path) else videos.of(self.path)

    def named(self, upscaled: str, videos: Suffixes) -> str:
        """Give the target's name. upscaled: how, as x4. videos: as of `suffix`."""
        beside = f"{self.timed(self.path.stem)}_{upscaled}{self.suffix(videos)}"
        return self.target or str(self.path.with_name(beside))
