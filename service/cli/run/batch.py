"""The inputs of one command line, upscaled one after the other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from upres.engine.core.errors import Interrupted, TargetError, UpresError
from upres.service.cli.console import Report

from .hints import hints
from .pair import Pair
from .stills import Stills
from .videos import Videos


@dataclass(frozen=True, slots=True)
class Batch:
    """Upscale several inputs alike. at: the time of the one frame that is wanted of each video. replaces: targets may be there."""

    report: Report
    videos: Videos
    stills: Stills
    at: Fraction | None
    replaces: bool

    def run(self, every: Sequence[Pair], folder: Path | None) -> int:
        """Upscale all; gives the exit code. A single input's error is raised; one of several is reported and skipped."""
        for pair in every:
            if pair.target is not None and self.at is None and not self.stills.takes(pair):
                self.videos.check(pair.target)
        if len(every) > 1:
            self.videos.load(folder or Path(every[0].source))
        with _made(folder):
            return self._each(every, folder)

    def _each(self, every: Sequence[Pair], folder: Path | None) -> int:
        code = failed = skipped = 0
        for number, pair in enumerate(every, 1):
            self.report.counts(number, len(every))
            try:
                skipped += not self._one(pair, folder)
            except Interrupted:
                raise
            except UpresError as error:
                for hint in hints(pair, error, alone=folder is None, replaces=self.replaces):
                    error.add_note(hint)
                if len(every) == 1:
                    raise
                self.report.fail(pair.source, error)
                code, failed = code or error.exit_code, failed + 1
        if len(every) > 1:
            self.report.ended(made=len(every) - skipped - failed, skipped=skipped, failed=failed)
        return code

    def _one(self, pair: Pair, folder: Path | None) -> bool:
        """Upscale one input; gives whether it was, rather than left out."""
        if self.at is not None and pair.image is None:
            return self.stills.frame(pair, self.at)
        if self.at is not None or self.stills.takes(pair):
            return self.stills.file(pair)
        return self.videos.file(pair, folder)


@contextmanager
def _made(folder: Path | None) -> Iterator[None]:
    """Make a folder where it is not there yet; it is taken away again where nothing has come into it."""
    missing: list[Path] = []
    try:
        if folder is not None:
            missing = [place for place in (folder, *folder.parents) if not place.exists()]
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{folder}: the folder cannot be made ({error.strerror})") from error
    try:
        yield
    finally:
        for place in missing:
            if any(place.iterdir()):
                break
            place.rmdir()
