"""Folder of a job: paths of its source, its log and its joined file."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LARGEST_PREVIEW = 8 << 20  # bytes of a preview that are read into memory; it was written by an untrusted attempt


@dataclass(frozen=True, slots=True)
class JobFolder:
    """Paths and files of one job; does not parse media."""

    path: Path

    @property
    def source(self) -> Path:
        """Return the path of the source, which may be incomplete."""
        return self.path / "source"

    @property
    def log(self) -> Path:
        """Return the folder of the segment log."""
        return self.path / "log"

    @property
    def joined(self) -> Path:
        """Return the path of the joined file, which exists until it is in the result store."""
        return self.path / "result.mp4"

    @property
    def preview(self) -> Path:
        """Return the path of the preview: the first frame of the result, a JPEG."""
        return self.path / "preview.jpg"

    @property
    def lock(self) -> Path:
        """Return the lock file of the attempt that works in the folder."""
        return self.path / "attempt.lock"

    def range_lock(self, number: int) -> Path:
        """Return the lock file of the attempt that makes a range of the log."""
        return self.path / f"range-{number}.lock"

    @property
    def source_bytes(self) -> int:
        """Return the size of the source file in bytes; 0 if there is none."""
        try:
            return self.source.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def is_source_complete(self) -> bool:
        """Report whether the source is complete."""
        return self._complete_marker.exists()

    @property
    def _complete_marker(self) -> Path:
        return self.path / "source.whole"

    def make(self) -> None:
        """Create the folder, with an empty source if there is none."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.source.touch()

    def append(self, offset: int, data: bytes) -> None:
        """Write bytes to the source at an offset not beyond its end; existing bytes are overwritten."""
        with self.source.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def end_source(self) -> None:
        """Flush the source to disk and mark it as complete; both survive a crash once this returns."""
        for path in (self.source, self._complete_marker):
            with path.open("ab") as file:
                os.fsync(file.fileno())
        descriptor = os.open(self.path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    @property
    def has_preview(self) -> bool:
        """Report whether there is a preview of at most LARGEST_PREVIEW bytes."""
        try:
            return self.preview.stat().st_size <= LARGEST_PREVIEW
        except FileNotFoundError:
            return False

    def put_preview(self, data: bytes) -> None:
        """Write the preview atomically."""
        part = self.path / "preview.part"
        part.write_bytes(data)
        part.replace(self.preview)

    def read_preview(self) -> bytes | None:
        """Read the preview; None if there is none, or if it has more than LARGEST_PREVIEW bytes."""
        try:
            with self.preview.open("rb") as file:
                data = file.read(LARGEST_PREVIEW + 1)
        except FileNotFoundError:
            return None
        return data if len(data) <= LARGEST_PREVIEW else None

    def remove_media(self) -> None:
        """Remove the source and the joined file, which are not needed once a job has ended."""
        for path in (self.joined, self.source):
            path.unlink(missing_ok=True)

    def remove_log(self) -> None:
        """Remove the segment log. Raises OSError."""
        remove_tree(self.log)

    def remove(self) -> None:
        """Remove the folder. Raises OSError."""
        remove_tree(self.path)


def remove_tree(path: Path) -> None:
    """Remove a folder if it exists; another process may remove it concurrently."""
    while path.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
