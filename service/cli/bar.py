"""How far something on a server is, on a terminal; and what is said meanwhile."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Bar:
    """A progress bar on a terminal, nothing elsewhere; leaving its `with` removes it. endless: what has no end has no bar."""

    def __init__(self, text: str, *, endless: bool = False) -> None:
        shares: tuple[ProgressColumn, ...] = () if endless else (BarColumn(), TaskProgressColumn())
        columns = (TextColumn("{task.description}"), *shares, TimeElapsedColumn())
        self._console = Console(stderr=True)
        self._progress = Progress(*columns, console=self._console, transient=True, disable=not sys.stderr.isatty())
        self._task = self._progress.add_task(text, total=None if endless else 100.0)
        self._warned = 0

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, text: str, percent: float) -> None:
        """Show how far it is."""
        self._progress.update(self._task, description=text, completed=percent)

    def say(self, text: str) -> None:
        """One line, above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, warnings: Sequence[str]) -> None:
        """Tell what is new among all warnings so far."""
        for warning in warnings[self._warned :]:
            self.say(f"note: {warning}")
        self._warned = len(warnings)
