"""Numbered images as the frames of one video."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from upres.engine.core.errors import SourceError, os_errors_as

NUMBER = re.compile(r"%(?:0(\d+))?d")
DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True, slots=True)
class ImageSequence:
    """Numbered images such as frame_%05d.png, all shown for the same time. rate: images per second."""

    pattern: str
    rate: Fraction = DEFAULT_RATE

    def __str__(self) -> str:
        return self.pattern

    def path(self, number: int) -> Path:
        """Return the path of the image with a number."""
        place = Path(self.pattern)
        return place.with_name(NUMBER.sub(lambda match: f"{number:0{match[1] or 0}d}", place.name))

    def numbers(self) -> list[int]:
        """Return the numbers of the existing images, sorted."""
        place, name = Path(self.pattern), self._name_pattern()
        with os_errors_as(self.pattern, SourceError):
            files = [file.name for file in place.parent.iterdir()] if place.parent.is_dir() else []
        return sorted(int(match[1]) for match in map(name.fullmatch, files) if match)

    def overlaps(self, source: "ImageSequence") -> bool:
        """Report whether an image of this sequence, existing or yet to be written with a source's number, is one of that source."""
        numbers = source.numbers()
        with os_errors_as(self.pattern, SourceError):
            files = {file for file in map(_file_id, map(source.path, numbers)) if file}
            if any(_file_id(self.path(number)) in files for number in self.numbers()):
                return True
            if Path(self.pattern).parent.resolve() != Path(source.pattern).parent.resolve():
                return False
        return any(source._name_pattern().fullmatch(self.path(number).name) for number in (1, *numbers))

    def _name_pattern(self) -> re.Pattern[str]:
        before, width, after = NUMBER.split(Path(self.pattern).name)
        digits = rf"\d{{{width}}}|[1-9]\d{{{width},}}" if width else r"0|[1-9]\d*"  # as printf writes them
        return re.compile(f"{re.escape(before)}({digits}){re.escape(after)}")

    def _alternatives(self) -> str:
        """Return a hint that names other numbered images in the folder, preferably with the same text before the number."""
        folder = Path(self.pattern).parent
        if not folder.is_dir():
            return f"; there is no folder {folder}"
        before, suffix = NUMBER.split(Path(self.pattern).name)[0], Path(self.pattern).suffix.lower()
        with os_errors_as(self.pattern, SourceError):
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() == suffix and file.is_file())
        alike = [file for file in files if file.name.startswith(before)] or files
        pattern = next(filter(None, map(pattern_of, map(str, alike))), None)
        return f"; found {pattern}" if pattern else ""

    def span(self) -> range:
        """Return the numbers as a range. Raises SourceError if there are no images or the numbers have gaps."""
        numbers = self.numbers()
        if not numbers:
            named = f"no such file, and no numbered images of that name, such as {self.path(1).name}"
            raise SourceError(f"{self}: {named}{self._alternatives()}")
        span = range(numbers[0], numbers[-1] + 1)
        if len(span) > len(numbers):
            missing = next(number for number, existing in zip(span, numbers, strict=False) if number != existing)
            raise SourceError(
                f"{self}: {self.path(missing).name} is missing, and {len(span) - len(numbers)} in all between the first and "
                "the last; number them without gaps"
            )
        return span


def _file_id(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, which are the same for all its names; None if it does not exist."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None


def pattern_of(path: str) -> str | None:
    """Return the pattern of the numbered images that a file belongs to, by the last number in its name; None if it has none."""
    place = Path(path)
    match = re.fullmatch(r"(.*?)(\d+)(\D*)", place.name)
    if match is None or "%" in place.name:
        return None
    before, digits, after = match.groups()
    width = f"0{len(digits)}" if digits.startswith("0") and len(digits) > 1 else ""
    return str(place.with_name(f"{before}%{width}d{after}"))


def is_sequence(name: str) -> bool:
    """Report whether a name has a placeholder for a number and is not the name of an existing file."""
    return len(NUMBER.findall(Path(name).name)) == 1 and not os.path.exists(name)  # noqa: PTH110 - it accepts names of any length
