"""Still images of a command line: image files, and single frames of videos."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path

from upres.engine.core.errors import SettingsError, TargetError, os_errors_as
from upres.engine.core.model import Model
from upres.engine.images import still
from upres.engine.images.file import encoded, read, save
from upres.engine.images.formats import PNG, format_of, is_image_name
from upres.engine.images.picture import Picture
from upres.engine.images.shown import frame_size, shown_at
from upres.engine.images.video import is_images, is_numbered
from upres.engine.pipeline import admission
from upres.service.cli.console import Report
from upres.service.cli.stdio import stdout

from .choice import Choice, Selection
from .dry_run import warn_about_existing_target
from .options import RunOptions, Suffixes
from .pair import Pair
from .patience import check_patience
from .unused import Kind, Unused

Read = Callable[[Sequence[Model]], Picture]


@dataclass(frozen=True, slots=True)
class Stills:
    """Upscaler of still images with the same options.

    selection: the models for all images; None if each source decides. height: resample results to it. exact: save losslessly.
    compare: put each result next to its source. tonemap: convert HDR frames to SDR. unused: reports options without effect.
    """

    choice: Choice
    selection: Selection | None
    report: Report
    options: RunOptions
    height: int | None
    exact: bool
    compare: bool
    tonemap: bool
    unused: Unused

    def produces_still(self, pair: Pair) -> bool:
        """Report whether the result is a still image: by the name of the target or, without one, by the kind of the source."""
        target_name, still = pair.target, pair.image is not None
        if target_name is not None and target_name != "-":
            still = is_image_name(target_name) and not (
                is_images(target_name) and (is_numbered(target_name) or not still)
            )
        if self.compare and not still:
            raise SettingsError(
                "`compare` produces an image: upres photo.png --compare compare.png; for a video, choose a frame: "
                "upres in.mp4 --still 5 --compare compare.png"
            )
        return still

    def file(self, pair: Pair) -> bool:
        """Upscale an image file; returns False if it was skipped."""
        picture = self._read(pair)
        return self._upscale(pair, (picture.width, picture.height), lambda models: picture)

    def frame(self, pair: Pair, at: Fraction) -> bool:
        """Upscale the frame of a video at a time in seconds; returns False if it was skipped."""
        engine_source, tonemap = pair.engine_source(), self.tonemap
        size = None if pair.source == "-" else frame_size(engine_source, tonemap=tonemap)
        return self._upscale(
            pair, size, lambda models: shown_at(engine_source, at, models, tonemap=tonemap), frame=True
        )

    def _read(self, pair: Pair) -> Picture:
        if pair.image is None and (pair.source == "-" or Path(pair.source).is_file()):
            what = "standard input" if pair.source == "-" else pair.source
            raise TargetError(
                f"{pair.target}: is a still image, and {what} is not; to upscale a single frame, add `still` 0"
            )
        source = pair.piped.source if pair.piped else pair.source
        assert isinstance(source, str | BytesIO)  # a piped image has been read whole
        return read(source)

    def _upscale(self, pair: Pair, size: tuple[int, int] | None, picture_for: Read, *, frame: bool = False) -> bool:
        """Choose models for an image by its size, if known, and run them. frame: the image is a frame of a video."""
        selection = self.selection or self.choice.recommended(min(size or (0,)))
        target = Path(pair.target_name(self._size_in_name(selection), Suffixes()))
        piped = pair.target == "-"
        kind = (pair.image or PNG) if piped else format_of(target)
        if not piped and self._is_skipped(pair, target):
            return False
        if self.exact and kind.exact is None:
            raise SettingsError(f"--lossless: {kind.name} always loses some of an image; name it {target.stem}.png")
        loaded, notes = self.choice.load(selection, size)
        for note in notes:
            self.report.warn(note)
        self.unused.note(Kind.FRAME if frame else Kind.STILL)
        picture, models = still.fitted(picture_for(loaded), loaded, kind)
        for note in picture.notes:
            self.report.warn(note)
        height = self.height or (selection.times * picture.height if selection.resampled else None)
        prediction = still.predict(picture, models, kind, height)
        still.check_fits(target, kind, prediction.width * (1 + self.compare), prediction.height)
        admission.check_memory_and_disk(prediction, Path(tempfile.gettempdir()) if piped else target.absolute().parent)
        source = "stdin" if pair.source == "-" else pair.source
        self.report.predicted(source, "stdout" if piped else str(target), prediction, models)
        shown = picture.width, picture.height
        check_patience(prediction, models, shown, self.report, self.options, self.choice, piped=pair.source == "-")
        if self.options.dry_run and not piped:
            warn_about_existing_target(
                self.report, self.options, lambda overwrite: self._check(pair, target, overwrite)
            )
        if not self.options.dry_run:
            self._run(pair, picture, models, height, target)
        return True

    def _run(self, pair: Pair, picture: Picture, models: Sequence[Model], height: int | None, target: Path) -> None:
        try:
            with self.report.working(pair.source):
                result = still.upscaled(picture, models, height)
                if self.compare:
                    result = still.side_by_side(picture, result)
                notes = self._save(result, target, pair)
        except KeyboardInterrupt as stop:
            stop.add_note("nothing is kept: an image is written only when it is complete")
            raise
        for note in notes:
            self.report.warn(note)
        shown = "stdout" if pair.target == "-" else str(target)
        self.report.saved(pair.source, shown, (result.width, result.height), models, compared=self.compare)

    def _save(self, result: Picture, target: Path, pair: Pair) -> list[str]:
        if pair.target != "-":
            return save(result, target, exact=self.exact)
        data, notes = encoded(result, pair.image or PNG, "stdout", exact=self.exact)
        stdout().write(data)
        return notes

    def _is_skipped(self, pair: Pair, target: Path) -> bool:
        """Report whether an existing target is skipped; raises TargetError if the target cannot be written."""
        with os_errors_as(target, TargetError):
            skips = self.options.skip_existing and target.exists()
        if skips:
            self.report.skipped(str(target))
        else:
            self._check(pair, target, self.options.overwrite or self.options.dry_run)
        return skips

    def _check(self, pair: Pair, target: Path, overwrite: bool) -> None:
        still.check_image_target(pair.source, target, overwrite=overwrite)

    def _size_in_name(self, selection: Selection) -> str:
        """Return the part of a default name that states the scale or height."""
        how = f"x{selection.times}" if self.height is None else f"{self.height}p"
        return f"{how}_compare" if self.compare else how
