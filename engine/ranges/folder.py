"""Files of a job's ranges, within the folder of its log: the plan, and a log for each range."""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from upres.engine.core.errors import LogError, TargetError, os_errors_as
from upres.engine.decode.cut import Span
from upres.engine.segments.folder import PLAN, RANGES, FolderLog
from upres.engine.segments.model import DAMAGED
from upres.engine.segments.tail import Tail
from upres.engine.segments.whole_file import partial_path, put_in_place

from .plan import Plan


class Ranges:
    """Ranges of one job. folder: of the job's log. header: of that log, as JSON values; the ranges' logs include it."""

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self._folder = folder / RANGES
        self.header: dict[str, Any] = json.loads(json.dumps(header))

    @property
    def plan(self) -> Plan | None:
        """The saved plan; None if there is none. Raises LogError if it is damaged."""
        try:
            saved = json.loads((self._folder / PLAN).read_bytes())
            spans = [Span(*(None if edge is None else Fraction(edge) for edge in span)) for span in saved["spans"]]
            return Plan((spans[0], *spans[1:]), saved["why"])
        except FileNotFoundError:
            return None
        except (OSError, *DAMAGED) as error:
            raise LogError(f"{self._folder / PLAN} is damaged; delete {self._folder.parent} and start again") from error

    def keep(self, plan: Plan) -> None:
        """Save a plan, which all later runs of the job follow."""
        spans = [
            [None if edge is None else str(edge) for edge in (span.start, span.end, span.after)] for span in plan.spans
        ]
        path = self._folder / PLAN
        with os_errors_as(path, TargetError):
            self._folder.mkdir(parents=True, exist_ok=True)
            partial_path(path).write_text(json.dumps({"spans": spans, "why": plan.why}))
            put_in_place(partial_path(path), path)

    def log(self, number: int) -> FolderLog:
        """Open the log of a range to append to it. Raises the same errors as FolderLog."""
        return FolderLog(self.place(number), {**self.header, "range": number})

    def tail(self, number: int) -> Tail:
        """Return a reader of a range's log, which may still be growing."""
        return Tail(self.place(number), notes=True)

    def check(self, number: int) -> None:
        """Raise LogError if a range's log was made with other settings than the job's, or by another build."""
        header = FolderLog.read_header(self.place(number))
        if any(header.get(key) != value for key, value in self.header.items()):
            raise LogError("it was made with other settings, or by another build")

    def is_made(self, number: int) -> bool:
        """Report whether a range needs no more work: its log is complete, or notes why it cannot be completed."""
        tail = self.tail(number)
        try:
            tail.news()
        except LogError:
            return True  # it is unusable, which the merger will report
        return any("made" in note or "doubt" in note for note in tail.notes)

    def empty(self, number: int) -> None:
        """Delete the contents of a range's log, except its index, after merging it."""
        for path in self.place(number).glob("video.*"):
            path.unlink(missing_ok=True)

    def place(self, number: int) -> Path:
        """Return the folder of a range's log."""
        return self._folder / f"{number:05}"
