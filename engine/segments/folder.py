"""A segment log on disk that survives a crash between any two writes.

The folder holds `index.jsonl`, with one record per line, and one file per track: its init section followed by its fragments, so
that the file itself is playable. A fragment's bytes are on disk before its record is; a record is never changed.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from upres.engine.core.errors import LogError, LogLockedError, TargetError, reason

from .memory import MemoryLog
from .model import DAMAGED, Fragment, Track, parse
from .whole_file import sync_folder

RANGES, PLAN = "ranges", "plan.json"
"""In the folder of a log that is merged from ranges: the folder with their logs, and the file in it that holds their plan."""
VERSION = 3
"""Version of the segments' contents; incremented when this build, with the same settings, cannot continue a log of an older one."""


class FolderLog(MemoryLog):
    """A log in a folder, written by one process at a time.

    checkpoint: called with the name of each step of a commit, so that tests can interrupt it there.
    Raises LogError if the folder holds a log of another job or version or a damaged one, LogLockedError if another process is
    writing it.
    """

    def __init__(
        self, folder: Path, header: Mapping[str, Any], checkpoint: Callable[[str], None] = lambda step: None
    ) -> None:
        super().__init__({**header, "version": VERSION})
        self.folder = folder
        self._checkpoint = checkpoint
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TargetError(f"{folder}: the log's folder cannot be created ({reason(error)})") from error
        self._lock_file = _acquire(folder)
        try:
            with _translated(folder):
                _repair(folder / "index.jsonl")
            records = _records(folder / "index.jsonl")
            with _translated(folder):
                self._index = (folder / "index.jsonl").open("ab", buffering=0)
            self._restore(records)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def discard(folder: Path) -> None:
        """Remove a log. Raises LogLockedError if it is being written, LogError if the folder holds something else."""
        _check_log(folder)
        with _acquire(folder):
            shutil.rmtree(folder)

    @staticmethod
    def wait(folder: Path, seconds: float) -> None:
        """Wait until no process is writing the log. Raises LogLockedError if one still is after `seconds`."""
        if (folder / "lock").exists():  # acquiring the lock would create the folder
            _acquire(folder, seconds).release()

    @staticmethod
    def read_header(folder: Path) -> dict[str, Any]:
        """Return the header of a log without changing anything; empty if there is none yet. Raises LogError if it is damaged."""
        return _header(_records(folder / "index.jsonl"))

    @staticmethod
    def segments(folder: Path) -> int:
        """Return the number of complete video segments in a log without changing anything, as another process may be writing it.

        Raises LogError if the folder holds something else.
        """
        _check_log(folder)
        index = folder / "index.jsonl"
        try:
            fragments = [record["fragment"] for record in _records(index) if "fragment" in record]
            return sum(1 for fragment in fragments if fragment["track"] == "video" and fragment["last"])
        except DAMAGED as error:
            raise _damaged(index, error) from error

    def close(self) -> None:
        """Close the index and unlock the folder; safe to call twice and from any thread."""
        if hasattr(self, "_index"):
            self._index.close()
        self._lock_file.release()

    def path(self, track: str) -> Path:
        """Return the path of a track's playable file."""
        return self.folder / self.tracks[track].file

    def _restore(self, records: list[dict[str, Any]]) -> None:
        if not records:
            self._record("header", self.header)
            return
        header = _header(records)
        if header.get("version") != VERSION:
            raise LogError(
                f"{self.folder} was started by another version of upres and cannot be resumed by this one; "
                "delete it and start again"
            )
        if differences := _differences(self.header, header):
            raise LogError(
                f"{self.folder} was started with other settings and cannot be resumed with these ({differences})"
            )
        try:
            for record in records[1:]:
                self._replay(record)
        except DAMAGED as error:
            raise _damaged(self.folder / "index.jsonl", error) from error
        for name in self.tracks:
            self._check(name)

    def _replay(self, record: dict[str, Any]) -> None:
        match parse(record):
            case Track() as track:
                self.tracks[track.name] = track
                self._fragments[track.name] = []
            case Fragment() as fragment:
                self._fragments[fragment.track].append(fragment)
            case None if "extra" in record:
                self.extras.append(record["extra"])

    def _check(self, name: str) -> None:
        """Truncate a track's file to its recorded fragments. Raises LogError if one of these is damaged."""
        fragments = self._fragments[name]
        size = len(self.tracks[name].init) + sum(fragment.size for fragment in fragments)
        path = self.path(name)
        if not path.exists() or path.stat().st_size < size:
            raise LogError(f"{path} is shorter than its index says; delete {self.folder} and start again")
        os.truncate(path, size)
        try:
            for fragment in fragments:
                self.read(fragment)
        except LogError as error:
            raise LogError(f"{error}; delete {self.folder} and start again") from error

    def _store_track(self, track: Track) -> None:
        with _translated(self.folder), (self.folder / track.file).open("wb") as file:
            file.write(track.init)
            self._sync(file.fileno(), "init written")
        sync_folder(self.folder)
        self._record("track", {**asdict(track), "time_base": str(track.time_base), "init": track.init.hex()})

    def _store(self, fragment: Fragment, data: bytes) -> None:
        with _translated(self.folder), self.path(fragment.track).open("r+b") as file:
            file.seek(len(self.tracks[fragment.track].init) + fragment.offset)
            file.write(data)
            self._sync(file.fileno(), "data written")
        self._record("fragment", asdict(fragment))

    def _store_note(self, extra: dict[str, Any]) -> None:
        self._record("extra", extra)

    def _load(self, fragment: Fragment) -> bytes:
        with self.path(fragment.track).open("rb") as file:
            file.seek(len(self.tracks[fragment.track].init) + fragment.offset)
            return file.read(fragment.size)

    def _record(self, kind: str, value: Mapping[str, Any]) -> None:
        self._checkpoint(f"before {kind}")
        with _translated(self.folder):
            line = json.dumps({kind: value}).encode() + b"\n"
            if self._index.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._sync(self._index.fileno(), f"{kind} recorded")

    def _sync(self, file: int, step: str) -> None:
        self._checkpoint(step)
        os.fsync(file)
        self._checkpoint(f"{step}, synced")


def _check_log(folder: Path) -> None:
    """Raise LogError if a folder does not hold a log. A folder with only a lock file is a log that was never started."""
    empty = folder.is_dir() and {path.name for path in folder.iterdir()} <= {"lock"}
    if not empty and not (folder / "index.jsonl").is_file():
        raise LogError(f"{folder} is in the way: it holds no log; move it, or choose another output")


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetError(f"{folder}: the log cannot be written ({reason(error)})") from error


def _acquire(folder: Path, seconds: float = 0.0) -> FileLock:
    lock = FileLock(folder / "lock", timeout=seconds, thread_local=False)  # any thread may close the log
    try:
        lock.acquire()
    except Timeout as error:
        raise LogLockedError(
            f"{folder}: another upres is writing this log; wait for it, or choose another output"
        ) from error
    return lock


def _repair(index: Path) -> None:
    """Remove an incomplete last line, which was never committed."""
    if not index.exists():
        return
    data = index.read_bytes()
    size = data.rfind(b"\n") + 1
    if size < len(data):
        os.truncate(index, size)


def _records(index: Path) -> list[dict[str, Any]]:
    """Return the complete records of an index: those whose line ends with a newline."""
    if not index.exists():
        return []
    data = index.read_bytes()
    try:
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    except DAMAGED as error:
        raise _damaged(index, error) from error


def _header(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the header, which is the first record; empty if there is none."""
    header = records[0].get("header") if records and isinstance(records[0], dict) else None
    return header if isinstance(header, dict) else {}


def _damaged(index: Path, error: Exception) -> LogError:
    return LogError(f"{index} is damaged ({error or type(error).__name__}); delete {index.parent} and start again")


def _differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Describe the differences between two headers."""
    differences = []
    for key in sorted({*now, *then}):
        new, old = now.get(key), then.get(key)
        if isinstance(new, dict) and isinstance(old, dict) and key != "source":
            differences += [_differences(new, old)] if new != old else []
        elif new != old and key == "source":
            differences.append("the source is another file")
        elif new != old:
            differences.append(f"{key} was {_described(old)}, is {_described(new)}")
    return ", ".join(differences)


def _described(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
