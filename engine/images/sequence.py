"""The frames of a video as numbered images: each is there under its name once it is whole."""

from pathlib import Path

from PIL import Image

from upres.engine.core.errors import LogError, TargetError
from upres.engine.core.frame import Frame
from upres.engine.core.text import counted
from upres.engine.decode.numbered import ImageSequence

from .file import READ, save
from .picture import Picture, resampled


class SequenceWriter:
    """Writes frames as images, numbered from `first` on. complete: how many there are already. exact: nothing is lost.

    Raises LogError where those that are there have another size, so that what made them was another command.
    """

    def __init__(
        self, images: ImageSequence, size: tuple[int, int], *, first: int, resume: bool = False, exact: bool = False
    ) -> None:
        self._images = images
        self._size = size
        self._exact = exact
        self.complete = _complete(images, first, size) if resume else 0
        self._next = first + self.complete

    def add(self, frame: Frame) -> None:
        """Write the next frame."""
        pixels = resampled(frame.pixels, self._size, Image.Resampling.LANCZOS)
        save(Picture(pixels), self._images.path(self._next), exact=self._exact)
        self._next += 1
        self.complete += 1

    def finish(self) -> list[str]:
        """Give what a user should know: which images of an earlier run are still there."""
        old = [number for number in self._images.numbers() if number >= self._next]
        return (
            [f"{counted(len(old), 'image')} from {self._images.path(old[0])} on are of an earlier run"] if old else []
        )

    def stop(self) -> str:
        """Say what is kept of a run that ends early."""
        if not self.complete:
            return "nothing is kept: the first image was not whole yet"
        return f"kept: {counted(self.complete, 'image')}; the same command with `resume` continues from there"


def check_none(images: ImageSequence, *, overwrite: bool, resume: bool) -> None:
    """Raise TargetError where images of these names are there already."""
    if not overwrite and not resume and (numbers := images.numbers()):
        raise TargetError(
            f"{images}: {counted(len(numbers), 'image')} of that name exist already, as {images.path(numbers[0]).name}; "
            "`overwrite` replaces them, `resume` continues after them"
        )


def _complete(images: ImageSequence, first: int, size: tuple[int, int]) -> int:
    """Count the images that are there, from the first one on without a gap."""
    there = set(images.numbers())
    count = next(count for count in range(len(there) + 1) if first + count not in there)
    for number in {first, first + count - 1} if count else ():
        _check_size(images.path(number), size)
    return count


def _check_size(path: Path, size: tuple[int, int]) -> None:
    try:
        with Image.open(path, formats=READ) as image:
            found = image.size
    except OSError as error:
        raise LogError(f"{path}: cannot be read, so nothing continues from it; `overwrite` starts again") from error
    if found != size:
        width, height = size
        raise LogError(
            f"{path}: is {found[0]}x{found[1]}, and this command makes {width}x{height}; the command that was interrupted "
            "resumes, `overwrite` starts again"
        )
