"""The ranges of one job on disk, within its log's folder: the plan, and a log for each range."""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from upres.engine.core.errors import LogError, TargetError, os_errors_as
from upres.engine.decode.cut import Span
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import DAMAGED
from upres.engine.segments.tail import Tail
from upres.engine.segments.whole_file import partial_path, put_in_place

from .plan import Plan

NAME = "ranges"


class Ranges:
    """folder: of the job's log. header: of that log, which those of ranges agree with; as JSON has it."""

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self._folder = folder / NAME
        self.header: dict[str, Any] = json.loads(json.dumps(header))

    @property
    def plan(self) -> Plan | None:
        """The plan that was kept; None where there is none yet. LogError where it is damaged."""
        try:
            found = json.loads((self._folder / "plan.json").read_bytes())
            spans = [Span(*(None if edge is None else Fraction(edge) for edge in span)) for span in found["spans"]]
            return Plan((spans[0], *spans[1:]), found["why"])
        except FileNotFoundError:
            return None
        except (OSError, *DAMAGED) as error:
            raise LogError(
                f"{self._folder / 'plan.json'} is damaged; delete {self._folder.parent} and start again"
            ) from error

    def keep(self, plan: Plan) -> None:
        """Keep a plan, which every later run of the job follows."""
        spans = [
            [None if edge is None else str(edge) for edge in (span.start, span.end, span.after)] for span in plan.spans
        ]
        path = self._folder / "plan.json"
        with os_errors_as(path, TargetError):
            self._folder.mkdir(parents=True, exist_ok=True)
            partial_path(path).write_text(json.dumps({"spans": spans, "why": plan.why}))
            put_in_place(partial_path(path), path)

    def log(self, number: int) -> FolderLog:
        """Open the log of a range, to write it from where it ends; errors as of FolderLog."""
        return FolderLog(self.place(number), {**self.header, "range": number})

    def tail(self, number: int) -> Tail:
        """Read the log of a range while it grows."""
        return Tail(self.place(number), notes=True)

    def check(self, number: int) -> None:
        """Raise LogError where a range's log was made with other settings than the job's, or by another build."""
        found = FolderLog.read_header(self.place(number))
        if any(found.get(key) != value for key, value in self.header.items()):
            raise LogError("it was made with other settings, or by another build")

    def is_made(self, number: int) -> bool:
        """Tell whether nothing is left to do for a range: its log is whole, or says why it will not be."""
        tail = self.tail(number)
        try:
            tail.news()
        except LogError:
            return True  # it cannot be used, as its merger finds
        return any("made" in note or "doubt" in note for note in tail.notes)

    def empty(self, number: int) -> None:
        """Remove what a range's log holds but for its index: it was merged."""
        for path in self.place(number).glob("video.*"):
            path.unlink(missing_ok=True)

    def place(self, number: int) -> Path:
        """Locate the log of a range."""
        return self._folder / f"{number:05}"
