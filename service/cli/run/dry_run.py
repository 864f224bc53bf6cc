"""What a real run would do with results that are there already, as a dry run says it."""

from collections.abc import Callable

from upres.engine.core.errors import UpresError
from upres.service.cli.console import Report

from .options import RunOptions


def say_what_is_there(report: Report, options: RunOptions, check: Callable[[bool], None]) -> None:
    """Say that a real run would be refused, or replace something. check: what is checked before it, overwriting or not."""
    try:
        check(False)
    except UpresError as error:
        refused = f"a real run would be refused: {error}"
        report.warn("a real run would replace what is there" if options.overwrite else refused)
