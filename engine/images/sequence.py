"""Writer of a video's frames as numbered images, each of which appears under its name only once it is complete."""

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
    """Writes frames as images, numbered from `first` on. complete: number of images that exist already. exact: write without loss.

    origin: the source and all settings that the images depend on, stored in a record next to the images until the last one is
    written. If its `source` is None, the run cannot be resumed. Without `resume`, images with these names are removed when the
    first frame arrives. Until `close`, no other run can write images with these names.
    Raises LogError if the existing images come from another source or other settings, or if another run is writing them.
    """

    def __init__(
        self,
        images: ImageSequence,
        size: tuple[int, int],
        *,
        first: int,
        origin: Mapping[str, Any],
        resume: bool,
        exact: bool,
    ) -> None:
        self._images = images
        self._size = size
        self._exact = exact
        self._first = first
        self._origin = json.loads(json.dumps(origin))
        self._record = _record(images)
        self._lock = FileLock(f"{log_folder(Path(images.pattern))}.lock", timeout=0, thread_local=False)
        if resume and self._record.exists():
            self._acquire()
        try:
            self._started = resume and _agrees(self._record, self._origin)
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
        """Remove the record, which only a resumed run needs; return no messages."""
        with os_errors_as(self._record, TargetError):
            self._record.unlink(missing_ok=True)
        return []

    def close(self) -> None:
        """Release the lock on the images; safe to call twice."""
        if self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def _acquire(self) -> None:
        """Acquire the lock on the images. Raises LogError if another run holds it."""
        with os_errors_as(self._images.pattern, TargetError):
            try:
                self._lock.acquire()
            except Timeout as error:
                raise LogError(
                    f"{self._images}: another upres is writing these images; wait for it, or choose another output"
                ) from error

    def stop(self) -> str:
        """Return a message that states what is kept of a run that ends early."""
        if not self.complete:
            return "nothing is kept: the first image was not complete yet"
        kept = f"kept: {counted(self.complete, 'image')}"
        if self._origin["source"] is None:
            return f"{kept}; only what comes from a file can be resumed"
        return f"{kept}; the same command with `resume` continues from there"

    def _start(self) -> None:
        """Remove the images of an earlier run, which a resumed run would mistake for its own, and write the record."""
        with os_errors_as(self._images.pattern, TargetError):
            self._record.parent.mkdir(parents=True, exist_ok=True)
        self._acquire()
        with os_errors_as(self._images.pattern, TargetError):
            self._record.unlink(missing_ok=True)
            for number in self._images.numbers():
                if number >= self._first:
                    self._images.path(number).unlink(missing_ok=True)
            part = partial_path(self._record)
            part.write_text(json.dumps(self._origin), "utf-8")
            put_in_place(part, self._record)
        self._started = True


def are_done(images: ImageSequence) -> bool:
    """Report whether images with these names exist that are not from an interrupted run."""
    return bool(images.numbers()) and not _record(images).exists()


def check_none(images: ImageSequence, *, overwrite: bool, resume: bool) -> None:
    """Raise TargetError if images with these names exist, unless they may be overwritten or an interrupted run is resumed."""
    if overwrite or not (numbers := images.numbers()) or (resume and _record(images).exists()):
        return
    there = f"{images}: {counted(len(numbers), 'image')} of that name exist already, as {images.path(numbers[0]).name}"
    if resume:
        raise TargetError(
            f"{there}, and no interrupted run left them, so there is nothing to resume; `overwrite` replaces them"
        )
    raise TargetError(f"{there}; `overwrite` replaces them, `resume` continues after those of an interrupted run")


def _record(images: ImageSequence) -> Path:
    """Return the path of the record of an interrupted run."""
    return Path(f"{log_folder(Path(images.pattern))}.json")


def _agrees(record: Path, origin: Mapping[str, Any]) -> bool:
    """Report whether there is an interrupted run to resume. Raises LogError if its source or settings were different."""
    if origin["source"] is None:
        raise LogError("a stream cannot be resumed: it is gone once it has been read; resume needs a file")
    try:
        with os_errors_as(record, LogError):
            if not record.exists():
                return False
            stored = json.loads(record.read_bytes())
    except ValueError as error:
        raise LogError(f"{record}: is damaged, so nothing can be resumed; `overwrite` starts again") from error
    stored = stored if isinstance(stored, dict) else {}
    if different := [name for name, value in origin.items() if stored.get(name) != value]:
        raise LogError(
            f"{record}: the existing images were made with other settings ({', '.join(different)}); repeat the interrupted command "
            "to resume, or start again with `overwrite`"
        )
    return True


def _complete(images: ImageSequence, first: int, size: tuple[int, int]) -> int:
    """Return the number of existing images from the first one on without a gap. Raises LogError if their size is different."""
    numbers = set(images.numbers())
    count = next(count for count in range(len(numbers) + 1) if first + count not in numbers)
    for number in {first, first + count - 1} if count else ():
        _check_size(images.path(number), size)
    return count


def _check_size(path: Path, size: tuple[int, int]) -> None:
    try:
        with Image.open(path, formats=READ) as image:
            actual = image.size
    except OSError as error:
        raise LogError(f"{path}: cannot be read, so the run cannot be resumed; `overwrite` starts again") from error
    if actual != size:
        width, height = size
        raise LogError(
            f"{path}: is {actual[0]}x{actual[1]}, and this command makes {width}x{height}; repeat the interrupted command to "
            "resume, or start again with `overwrite`"
        )
