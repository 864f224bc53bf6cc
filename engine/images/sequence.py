"""The frames of a video as numbered images: each is there under its name once it is whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

from upres.engine.core.errors import LogError, TargetError, UpresError, os_errors_as
from upres.engine.core.frame import Frame
from upres.engine.core.text import counted
from upres.engine.decode.numbered import ImageSequence
from upres.engine.pipeline.target import log_folder
from upres.engine.segments.whole_file import partial_path, put_in_place

from .file import READ, save
from .picture import Picture, resampled


class SequenceWriter:
    """Writes frames as images, numbered from `first` on. complete: how many there are already. exact: nothing is lost.

    made_by: the source and all that the images depend on, kept beside them until the last one is there; a `source` of None cannot
    be resumed. Without `resume`, images of these names are removed once the first frame is there.
    To be closed: until then no other run writes images of these names.
    Raises LogError where those that are there were made of something else, or otherwise, or another run writes them.
    """

    def __init__(
        self,
        images: ImageSequence,
        size: tuple[int, int],
        *,
        first: int,
        made_by: Mapping[str, Any],
        resume: bool,
        exact: bool,
    ) -> None:
        self._images = images
        self._size = size
        self._exact = exact
        self._first = first
        self._made_by = json.loads(json.dumps(made_by))
        self._record = _record(images)
        self._lock = FileLock(f"{log_folder(Path(images.pattern))}.lock", timeout=0, thread_local=False)
        if resume and self._record.exists():
            self._claim()
        try:
            self._started = resume and _agrees(self._record, self._made_by)
            self.complete = _complete(images, first, size) if self._started else 0
        except UpresError:
            self.close()
            raise
        self._next = first + self.complete

    def add(self, frame: Frame) -> None:
        """Write the next frame."""
        if not self._started:
            self._start()
        pixels = resampled(frame.pixels, self._size, Image.Resampling.LANCZOS)
        save(Picture(pixels), self._images.path(self._next), exact=self._exact)
        self._next += 1
        self.complete += 1

    def finish(self) -> list[str]:
        """Remove what a resumed run would need; there is nothing that a user should know."""
        with os_errors_as(self._record, TargetError):
            self._record.unlink(missing_ok=True)
        return []

    def close(self) -> None:
        """Let others write images of these names; safe to call twice."""
        if self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def _claim(self) -> None:
        """Raise LogError where another run writes images of these names."""
        with os_errors_as(self._images.pattern, TargetError):
            try:
                self._lock.acquire()
            except Timeout as error:
                raise LogError(
                    f"{self._images}: another upres is writing these images; wait for it, or choose another output"
                ) from error

    def stop(self) -> str:
        """Say what is kept of a run that ends early."""
        if not self.complete:
            return "nothing is kept: the first image was not whole yet"
        kept = f"kept: {counted(self.complete, 'image')}"
        if self._made_by["source"] is None:
            return f"{kept}; only what comes from a file can be resumed"
        return f"{kept}; the same command with `resume` continues from there"

    def _start(self) -> None:
        """Remove an earlier run's images, which a resumed run would take for its own, then say whose the next ones are."""
        with os_errors_as(self._images.pattern, TargetError):
            self._record.parent.mkdir(parents=True, exist_ok=True)
        self._claim()
        with os_errors_as(self._images.pattern, TargetError):
            self._record.unlink(missing_ok=True)
            for number in self._images.numbers():
                if number >= self._first:
                    self._images.path(number).unlink(missing_ok=True)
            part = partial_path(self._record)
            part.write_text(json.dumps(self._made_by), "utf-8")
            put_in_place(part, self._record)
        self._started = True


def are_done(images: ImageSequence) -> bool:
    """Tell whether images of these names are there, and no interrupted run has left them."""
    return bool(images.numbers()) and not _record(images).exists()


def check_none(images: ImageSequence, *, overwrite: bool, resume: bool) -> None:
    """Raise TargetError where images of these names are there already, and are not those of an interrupted run to resume."""
    if overwrite or not (numbers := images.numbers()) or (resume and _record(images).exists()):
        return
    there = f"{images}: {counted(len(numbers), 'image')} of that name exist already, as {images.path(numbers[0]).name}"
    if resume:
        raise TargetError(
            f"{there}, and no interrupted run left them, so there is nothing to resume; `overwrite` replaces them"
        )
    raise TargetError(f"{there}; `overwrite` replaces them, `resume` continues after those of an interrupted run")


def _record(images: ImageSequence) -> Path:
    """Name the file that says what an interrupted run's images were made of."""
    return Path(f"{log_folder(Path(images.pattern))}.json")


def _agrees(record: Path, made_by: Mapping[str, Any]) -> bool:
    """Tell whether an interrupted run can be resumed; LogError where another one left its record."""
    if made_by["source"] is None:
        raise LogError("a stream cannot be resumed: it is gone once it has been read; resume needs a file")
    try:
        with os_errors_as(record, LogError):
            if not record.exists():
                return False
            found = json.loads(record.read_bytes())
    except ValueError as error:
        raise LogError(f"{record}: is damaged, so nothing can be resumed; `overwrite` starts again") from error
    found = found if isinstance(found, dict) else {}
    if different := [name for name, value in made_by.items() if found.get(name) != value]:
        raise LogError(
            f"{record}: the images that are there were made otherwise ({', '.join(different)}); the command "
            "that was interrupted resumes, `overwrite` starts again"
        )
    return True


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
