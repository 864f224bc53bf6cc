"""The folder of one job: where its source, its log and its joined file lie until it is forgotten."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LARGEST_PREVIEW = 8 << 20  # bytes that are read at once of what an attempt wrote


@dataclass(frozen=True, slots=True)
class JobFolder:
    """Names only; nothing here reads media."""

    path: Path

    @property
    def source(self) -> Path:
        """Locate the source's bytes, as far as they came."""
        return self.path / "source"

    @property
    def log(self) -> Path:
        """Locate the segment log's folder."""
        return self.path / "log"

    @property
    def joined(self) -> Path:
        """Locate the joined file, until it is in the result store."""
        return self.path / "result.mp4"

    @property
    def preview(self) -> Path:
        """Locate the first frame of the result, a JPEG."""
        return self.path / "preview.jpg"

    @property
    def lock(self) -> Path:
        """Locate the lock of the attempt that works here."""
        return self.path / "attempt.lock"

    def range_lock(self, number: int) -> Path:
        """Locate the lock of the attempt that makes a range of the log."""
        return self.path / f"range-{number}.lock"

    @property
    def source_bytes(self) -> int:
        """Count the bytes of the source that are here."""
        try:
            return self.source.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def source_whole(self) -> bool:
        """Report whether no more of the source is to come."""
        return self._whole.exists()

    @property
    def _whole(self) -> Path:
        return self.path / "source.whole"

    def make(self) -> None:
        """Make the folder with an empty source."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.source.touch()

    def append(self, offset: int, data: bytes) -> None:
        """Write bytes at an offset that is not behind the end; what is there already is written again."""
        with self.source.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def end_source(self) -> None:
        """Mark the source as whole; when this returns, it survives a crash."""
        for path in (self.source, self._whole):
            with path.open("ab") as file:
                os.fsync(file.fileno())
        descriptor = os.open(self.path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    @property
    def has_preview(self) -> bool:
        """Report whether there is a preview, of at most LARGEST_PREVIEW bytes."""
        try:
            return self.preview.stat().st_size <= LARGEST_PREVIEW
        except FileNotFoundError:
            return False

    def put_preview(self, data: bytes) -> None:
        """Write the preview; it appears under its name only when it is whole."""
        part = self.path / "preview.part"
        part.write_bytes(data)
        part.replace(self.preview)

    def read_preview(self) -> bytes | None:
        """Read the preview; None where there is none, or it has more than LARGEST_PREVIEW bytes."""
        try:
            with self.preview.open("rb") as file:
                data = file.read(LARGEST_PREVIEW + 1)
        except FileNotFoundError:
            return None
        return data if len(data) <= LARGEST_PREVIEW else None

    def spend(self) -> None:
        """Remove what nobody reads once a job has ended."""
        for path in (self.joined, self.source):
            path.unlink(missing_ok=True)

    def remove_log(self) -> None:
        """Remove the segment log; OSError where that is not possible now."""
        remove_tree(self.log)

    def remove(self) -> None:
        """Remove everything; OSError where that is not possible now."""
        remove_tree(self.path)


def remove_tree(path: Path) -> None:
    """Remove a folder, if it is there; what somebody else removes at the same time is removed, too."""
    while path.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
