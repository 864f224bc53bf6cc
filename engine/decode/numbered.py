"""Images whose names differ by a number, as the frames of one video."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from upres.engine.core.errors import SourceError, os_errors_as

NUMBER = re.compile(r"%(?:0(\d+))?d")
USUAL_RATE = Fraction(25)


@dataclass(frozen=True, slots=True)
class ImageSequence:
    """Numbered images, as frame_%05d.png, each shown for as long as the others. rate: a second."""

    pattern: str
    rate: Fraction = USUAL_RATE

    def __str__(self) -> str:
        return self.pattern

    def path(self, number: int) -> Path:
        """Name the file of a number."""
        place = Path(self.pattern)
        return place.with_name(NUMBER.sub(lambda match: f"{number:0{match[1] or 0}d}", place.name))

    def numbers(self) -> list[int]:
        """List the numbers of the files that are there, in order."""
        place, name = Path(self.pattern), self._name()
        with os_errors_as(self.pattern, SourceError):
            files = [file.name for file in place.parent.iterdir()] if place.parent.is_dir() else []
        return sorted(int(match[1]) for match in map(name.fullmatch, files) if match)

    def overlaps(self, source: "ImageSequence") -> bool:
        """Tell whether images of a source's numbers, or those that are there, are or become some of the source's own."""
        there = source.numbers()
        with os_errors_as(self.pattern, SourceError):
            files = {file for file in map(_file, map(source.path, there)) if file}
            if any(_file(self.path(number)) in files for number in self.numbers()):
                return True
            if Path(self.pattern).parent.resolve() != Path(source.pattern).parent.resolve():
                return False
        return any(source._name().fullmatch(self.path(number).name) for number in (1, *there))

    def _name(self) -> re.Pattern[str]:
        before, width, after = NUMBER.split(Path(self.pattern).name)
        digits = rf"\d{{{width}}}|[1-9]\d{{{width},}}" if width else r"0|[1-9]\d*"  # as printf writes them
        return re.compile(f"{re.escape(before)}({digits}){re.escape(after)}")

    def _others(self) -> str:
        """Say which numbered images are there instead: of the same name but for its digits, or of any."""
        folder = Path(self.pattern).parent
        if not folder.is_dir():
            return f"; there is no folder {folder}"
        before, suffix = NUMBER.split(Path(self.pattern).name)[0], Path(self.pattern).suffix.lower()
        with os_errors_as(self.pattern, SourceError):
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() == suffix and file.is_file())
        alike = [file for file in files if file.name.startswith(before)] or files
        pattern = next(filter(None, map(pattern_of, map(str, alike))), None)
        return f"; there are those of {pattern}" if pattern else ""

    def span(self) -> range:
        """Return the numbers as a range; SourceError where there are none, or some are missing between."""
        numbers = self.numbers()
        if not numbers:
            named = f"no such file, and no numbered images of that name, such as {self.path(1).name}"
            raise SourceError(f"{self}: {named}{self._others()}")
        span = range(numbers[0], numbers[-1] + 1)
        if len(span) > len(numbers):
            missing = next(number for number, there in zip(span, numbers, strict=False) if number != there)
            raise SourceError(
                f"{self}: {self.path(missing).name} is missing, and {len(span) - len(numbers)} in all between the first and "
                "the last; number them without gaps"
            )
        return span


def _file(path: Path) -> tuple[int, int] | None:
    """Identify a file by whichever name; None where there is none."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def pattern_of(path: str) -> str | None:
    """Give the pattern of numbered images that a file is one of, by its last number; None where its name has none."""
    place = Path(path)
    found = re.fullmatch(r"(.*?)(\d+)(\D*)", place.name)
    if found is None or "%" in place.name:
        return None
    before, digits, after = found.groups()
    width = f"0{len(digits)}" if digits.startswith("0") and len(digits) > 1 else ""
    return str(place.with_name(f"{before}%{width}d{after}"))


def is_sequence(name: str) -> bool:
    """Tell whether a name has a place for a number, and is no file's own."""
    return len(NUMBER.findall(Path(name).name)) == 1 and not os.path.exists(name)  # noqa: PTH110 - no name is too long for it
