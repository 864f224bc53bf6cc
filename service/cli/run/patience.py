"""Warning before long runs, with faster alternatives and, at a terminal, a question whether to start."""

import sys
from collections.abc import Iterator, Sequence
from math import prod

from upres.engine.core.errors import Interrupted
from upres.engine.core.model import Model
from upres.engine.models import registry
from upres.engine.models.catalog import NETWORKS, slug_of
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.pipeline import admission
from upres.engine.pipeline.admission import PATIENCE_SECONDS
from upres.engine.pipeline.estimate import Prediction, seconds_a_frame
from upres.service.cli.console import Report, duration_text

from .choice import Choice
from .options import RunOptions

SCALES = {"--scale 2": "RealESRGAN_Vid_x2", "--scale 4": "RealESRGAN_Vid_x4"}
"""Options that choose another model. A model with a larger scale than that of the run is not suggested."""
WORTH = 0.75  # an alternative must take less than this share of the time to be suggested


def check_patience(
    prediction: Prediction,
    models: Sequence[Model],
    size: tuple[int, int],
    report: Report,
    options: RunOptions,
    choice: Choice,
    *,
    piped: bool,
) -> None:
    """Warn about a run that takes more than PATIENCE_SECONDS, suggest faster alternatives, and ask whether to start it.

    The question is asked only at a terminal, for the first of several inputs, and without --yes. size: of the input frames.
    choice: the one that loaded the models. piped: the source is read from standard input, so no answer can be read from it.
    Raises Interrupted if the answer is no, and SettingsError for a model made for GPUs if the question cannot be asked.
    """
    if prediction.seconds is None or prediction.seconds <= PATIENCE_SECONDS:
        return
    faster = "; ".join(_faster(prediction, models, size, choice))
    long = f"about {duration_text(prediction.seconds)} on this machine"
    report.warn(f"{long}; faster: {faster}" if faster else long, seconds=prediction.seconds)
    if options.yes or options.dry_run:
        return
    if piped or options.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        admission.check_duration(prediction, models)
        return
    if not report.confirm(f"it takes about {duration_text(prediction.seconds)}; start it?"):
        raise Interrupted("not started; use -y to start without being asked")


def _faster(prediction: Prediction, models: Sequence[Model], size: tuple[int, int], choice: Choice) -> Iterator[str]:
    """Yield faster alternatives, with a measured time for those with another model."""
    frames, (width, height) = prediction.frames or 0, size
    seen = {(model.name, model.report) for model in models}
    for option, name, changed in _candidates(models, choice, video=frames > 1):
        model = choice.alternative(name, size, **changed)
        key = model.name, model.report
        if key in seen or (changed.get("quality") == "fast" and "int8" not in model.report):
            continue
        seen.add(key)
        seconds = frames * seconds_a_frame(model, width, height)
        if seconds < WORTH * (prediction.seconds or 0):
            yield f"{option} takes about {duration_text(seconds)}"
    if frames > 1:
        yield "--duration 3 upscales only three seconds, to try it"
    if choice.is_untuned(models):
        yield f"`upres tune --size {width}x{height}` finds the fastest runtime on this machine"


def _candidates(models: Sequence[Model], choice: Choice, *, video: bool) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield options that may be faster, with a model and the settings that they change. video: not an image."""
    instead = choice.named_by
    for option, slug in SCALES.items():
        if registry.scale_of(slug) <= prod(model.scale for model in models):
            yield f"{option}{instead}", slug, {}
    if len(models) != 1 or models[0].name not in NETWORKS or not isinstance(models[0], PerFrameModel):
        return
    name, slug = models[0].name, slug_of(models[0].name).slug
    scale = f"--scale {models[0].scale} " if instead else ""
    yield f"{scale}--content auto{instead}", slug, {"content": "auto"}
    yield f"{scale}--content live{instead} (an approximation)", slug, {"content": "live"}
    yield "--quality high", name, {"quality": "high"}
    if video:
        yield "--quality fast", name, {"quality": "fast"}
