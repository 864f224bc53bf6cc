"""The report of a dry run on existing targets."""

from collections.abc import Callable

from upres.engine.core.errors import UpresError
from upres.service.cli.console import Report

from .options import RunOptions


def warn_about_existing_target(report: Report, options: RunOptions, check: Callable[[bool], None]) -> None:
    """Warn if a real run would be refused or would replace something. check: the run's check, with or without overwriting."""
    try:
        check(False)
    except UpresError as error:
        refused = f"a real run would be refused: {error}"
        report.warn("a real run would replace the existing target" if options.overwrite else refused)
