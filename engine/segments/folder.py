"""A segment log on disk that survives a crash between any two writes.

The folder holds `index.jsonl`, one record a line, and one file a track: its init section, then its fragments, so that the file
itself plays. A fragment's bytes are on disk before its record; a record is never changed.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from upres.engine.core.errors import LogError, LogLockedError, TargetError, reason

from .memory import MemoryLog
from .model import DAMAGED, Fragment, Track
from .whole_file import sync_folder

VERSION = 3
"""Of what segments hold: it changes where an interrupted log cannot go on with what this build makes of the same settings."""


class FolderLog(MemoryLog):
    """A log in a folder, written by one process at a time.

    checkpoint: called with a name between the steps of a commit, for tests that stop there.
    Raises LogError where the folder holds another job's log, another version's or a damaged one, LogLockedError where it is
    being written.
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
        self._claim = _claim(folder)
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
        """Remove a log; LogLockedError where it is being written, LogError where the folder holds something else."""
        _check_log(folder)
        with _claim(folder):
            shutil.rmtree(folder)

    @staticmethod
    def wait(folder: Path, seconds: float) -> None:
        """Wait until no process writes a folder's log; LogLockedError where one does after so many seconds."""
        if (folder / "lock").exists():  # to claim it would make the folder
            _claim(folder, seconds).release()

    @staticmethod
    def read_header(folder: Path) -> dict[str, Any]:
        """Return the header of a folder's log, changing nothing; empty where there is none yet. LogError where it is damaged."""
        records = _records(folder / "index.jsonl")
        header = records[0].get("header") if records and isinstance(records[0], dict) else None
        return header if isinstance(header, dict) else {}

    @staticmethod
    def segments(folder: Path) -> int:
        """Count the complete segments of video in a folder's log, changing nothing: another process may be writing it.

        Raises LogError where the folder holds something else.
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
        self._claim.release()

    def path(self, track: str) -> Path:
        """Return the path of a track's playable file."""
        return self.folder / self.tracks[track].file

    def _restore(self, records: list[dict[str, Any]]) -> None:
        if not records:
            self._record("header", self.header)
            return
        began = records[0].get("header", {})
        if began.get("version") != VERSION:
            raise LogError(
                f"{self.folder} was started by another version of upres and cannot be resumed by this one; "
                "delete it and start again"
            )
        if differences := _differences(self.header, began):
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
        match record:
            case {"track": track}:
                time_base = Fraction(track["time_base"])
                restored = Track(**{**track, "time_base": time_base, "init": bytes.fromhex(track["init"])})
                self.tracks[restored.name] = restored
                self._fragments[restored.name] = []
            case {"fragment": fragment}:
                self._fragments[fragment["track"]].append(Fragment(**fragment))
            case {"extra": extra}:
                self.extras.append(extra)

    def _check(self, name: str) -> None:
        """Cut off what was never recorded; LogError where what was recorded is damaged."""
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
    """Raise LogError for what is not a log's folder; one that holds only its lock is a log that was never started."""
    empty = folder.is_dir() and {path.name for path in folder.iterdir()} <= {"lock"}
    if not empty and not (folder / "index.jsonl").is_file():
        raise LogError(f"{folder} is in the way: it holds no log; move it, or choose another output")


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetError(f"{folder}: the log cannot be written ({reason(error)})") from error


def _claim(folder: Path, seconds: float = 0.0) -> FileLock:
    lock = FileLock(folder / "lock", timeout=seconds, thread_local=False)  # any thread may close the log
    try:
        lock.acquire()
    except Timeout as error:
        raise LogLockedError(
            f"{folder}: another upres is writing this log; wait for it, or choose another output"
        ) from error
    return lock


def _repair(index: Path) -> None:
    """Cut off a last line without its end, which was never committed."""
    if not index.exists():
        return
    data = index.read_bytes()
    size = data.rfind(b"\n") + 1
    if size < len(data):
        os.truncate(index, size)


def _records(index: Path) -> list[dict[str, Any]]:
    """Return the whole records of an index, which are those whose line has its end."""
    if not index.exists():
        return []
    data = index.read_bytes()
    try:
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    except DAMAGED as error:
        raise _damaged(index, error) from error


def _damaged(index: Path, error: Exception) -> LogError:
    return LogError(f"{index} is damaged ({error or type(error).__name__}); delete {index.parent} and start again")


def _differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Describe what has changed between two headers."""
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
