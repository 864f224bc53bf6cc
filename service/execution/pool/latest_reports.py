"""Reports that wait until somebody takes them."""

from upres.service.execution.base import Report


class LatestReports:
    """They stay few: of one kind on one order the latest is all that is needed, however many come. Their length: how many wait."""

    def __init__(self) -> None:
        self._reports: dict[tuple[str | None, str], Report] = {}

    def __len__(self) -> int:
        return len(self._reports)

    def put(self, report: Report) -> None:
        """Keep a report, in the place of an earlier one of its kind."""
        self._reports[report.get("request_id"), report["report"]] = report

    def take(self, most: int) -> list[Report]:
        """Take out the first ones, at most so many."""
        return [self._reports.pop(key) for key in [*self._reports][:most]]
