"""A source and its target, and the default names of results."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlsplit

from upres.engine.core.errors import SettingsError
from upres.engine.core.text import number
from upres.engine.decode.numbered import DEFAULT_RATE, ImageSequence
from upres.engine.decode.source import Source, kind_of
from upres.engine.images.formats import Format, is_image_name, usual_suffix
from upres.engine.images.recognize import still_format
from upres.engine.images.video import is_images

from .options import Suffixes
from .piped import Piped


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and its target; None is a name next to the source that states the scale.

    rate: frames per second of numbered images, if set. image: the format of a source that is a still image.
    piped: standard input, if the source is `-`. at: the time in seconds of the only frame of a video to upscale, as an image.
    """

    source: str
    target: str | None
    rate: Fraction | None = None
    image: Format | None = None
    piped: Piped | None = None
    at: Fraction | None = None

    @classmethod
    def of(cls, source: str, at: Fraction | None = None) -> "Pair":
        """Detect the kind of a source and return it without a target. `at` is ignored for images."""
        piped = Piped.look() if source == "-" else None
        image = piped.image if piped else still_format(source)
        return cls(source, None, image=image, piped=piped, at=None if image else at)

    def engine_source(self) -> Source:
        """Return the source for the engine; raises SettingsError if a rate is set for anything but numbered images."""
        numbered = self.source != "-" and kind_of(self.source) == "sequence"
        if self.rate is not None and not numbered:
            raise SettingsError(
                f"--rate is for numbered images, such as frame_%05d.png, and {self.source} has its own rate"
            )
        if self.piped is not None:
            return self.piped.source
        return ImageSequence(self.source, self.rate or DEFAULT_RATE) if numbered else self.source

    @property
    def path(self) -> Path:
        """Return the source's path; for other sources, a name in the current folder, as for a download."""
        if self.source == "-":
            return Path("stdin")
        if kind_of(self.source) in ("file", "sequence"):
            return Path(self.source)
        return Path(Path(unquote(urlsplit(self.source).path)).name or "video")

    def with_time(self, name: str) -> str:
        """Append the time of the requested frame to a name, so that the names of several frames of a video differ."""
        return name if self.at is None else f"{name}_{number(self.at)}s"

    def suffix(self, videos: Suffixes) -> str:
        """Return the suffix of the result; images keep theirs."""
        own = self.path.suffix
        if self.image is not None:
            return own if is_image_name(self.path) else usual_suffix(self.image)
        if self.at is not None:
            return ".png"
        if own.lower() == ".png" and kind_of(self.source) == "file":  # animated, since it is not a still image
            return ".apng"
        return own if is_images(self.path) else videos.of(self.path)

    def target_name(self, upscaled: str, videos: Suffixes) -> str:
        """Return the target's name. upscaled: the scale or height in it, such as x4. videos: as for `suffix`."""
        beside = f"{self.with_time(self.path.stem)}_{upscaled}{self.suffix(videos)}"
        return self.target or str(self.path.with_name(beside))
