"""The inputs of a command line, upscaled one after the other."""

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
    """Several inputs with the same options. at: upscale only the frame at this time of each video. replaces: targets may exist."""

    report: Report
    videos: Videos
    stills: Stills
    at: Fraction | None
    replaces: bool

    def run(self, every: Sequence[Pair], folder: Path | None) -> int:
        """Upscale all inputs; returns the exit code. The error of a single input is raised; with several inputs it is reported."""
        for pair in every:
            if pair.target is not None and self.at is None and not self.stills.produces_still(pair):
                self.videos.check(pair.target)
        if len(every) > 1:
            self.videos.load(folder or Path(every[0].source))
        with _created_folder(folder):
            return self._upscale_each(every, folder)

    def _upscale_each(self, every: Sequence[Pair], folder: Path | None) -> int:
        code = failed = skipped = 0
        for number, pair in enumerate(every, 1):
            self.report.begin_input(number, len(every))
            try:
                skipped += not self._upscale_one(pair, folder)
            except Interrupted:
                raise
            except UpresError as error:
                for hint in hints(pair, error, single_target=folder is None, replaces=self.replaces):
                    error.add_note(hint)
                if len(every) == 1:
                    raise
                self.report.fail(pair.source, error)
                code, failed = code or error.exit_code, failed + 1
        if len(every) > 1:
            done, dry_run = len(every) - skipped - failed, self.videos.options.dry_run
            self.report.ended(done=done, skipped=skipped, failed=failed, dry_run=dry_run)
        return code

    def _upscale_one(self, pair: Pair, folder: Path | None) -> bool:
        """Upscale one input; returns False if it was skipped."""
        if self.at is not None and pair.image is None:
            return self.stills.frame(pair, self.at)
        if self.at is not None or self.stills.produces_still(pair):
            return self.stills.file(pair)
        return self.videos.file(pair, folder)


@contextmanager
def _created_folder(folder: Path | None) -> Iterator[None]:
    """Create a folder if it does not exist, and remove it afterwards if it is still empty."""
    missing: list[Path] = []
    try:
        if folder is not None:
            missing = [place for place in (folder, *folder.parents) if not place.exists()]
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{folder}: the folder cannot be created ({error.strerror})") from error
    try:
        yield
    finally:
        for place in missing:
            if any(place.iterdir()):
                break
            place.rmdir()
