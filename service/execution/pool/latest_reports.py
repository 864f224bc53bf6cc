"""A queue of reports that wait to be handled."""

from upres.service.execution.base import Report


class LatestReports:
    """A short queue: only the latest report of each kind and order is kept. Its length is the number of waiting reports."""

    def __init__(self) -> None:
        self._reports: dict[tuple[str | None, str], Report] = {}

    def __len__(self) -> int:
        return len(self._reports)

    def put(self, report: Report) -> None:
        """Add a report, replacing an earlier one of the same kind and order."""
        self._reports[report.get("request_id"), report["report"]] = report

    def take(self, most: int) -> list[Report]:
        """Remove and return the first reports, at most `most`."""
        return [self._reports.pop(key) for key in [*self._reports][:most]]
