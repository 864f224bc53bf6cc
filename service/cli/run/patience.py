"""Warning before long runs, with faster alternatives and, at a terminal, a question whether to start."""

import sys
from collections.abc import Iterator, Sequence
from math import prod

from upres.engine.core.errors import Interrupted
from upres.engine.core.model import Model, Predicting
from upres.engine.models import registry
from upres.engine.pipeline import admission
from upres.engine.pipeline.admission import PATIENCE_SECONDS
from upres.engine.pipeline.estimate import Prediction, seconds_a_frame
from upres.service.cli.console import Report, duration_text

from .options import RunOptions

LIGHT = {"--scale 2": "RealESRGAN_Vid_x2", "--scale 4": "RealESRGAN_Vid_x4"}
"""Options that choose a light model. A model with a larger scale than that of the run is not suggested."""
WORTH = 0.75  # an alternative must take less than this share of the time to be suggested


def check_patience(
    prediction: Prediction,
    models: Sequence[Model],
    size: tuple[int, int],
    report: Report,
    options: RunOptions,
    *,
    piped: bool,
) -> None:
    """Warn about a run that takes more than PATIENCE_SECONDS, suggest faster alternatives, and ask whether to start it.

    The question is asked only at a terminal, for the first of several inputs, and without --yes. size: of the input frames.
    piped: the source is read from standard input, so no answer can be read from it.
    Raises Interrupted if the answer is no, and SettingsError for a model made for GPUs if the question cannot be asked.
    """
    if prediction.seconds is None or prediction.seconds <= PATIENCE_SECONDS:
        return
    faster = "; ".join(_faster(prediction, models, size))
    report.warn(
        f"about {duration_text(prediction.seconds)} on this machine; faster: {faster}", seconds=prediction.seconds
    )
    if options.yes or options.dry_run:
        return
    if piped or options.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        admission.check_duration(prediction, models)
        return
    if not report.confirm(f"it takes about {duration_text(prediction.seconds)}; start it?"):
        raise Interrupted("not started; use -y to start without being asked")


def _faster(prediction: Prediction, models: Sequence[Model], size: tuple[int, int]) -> Iterator[str]:
    """Yield faster alternatives, with a measured time for those with another model."""
    frames, (width, height) = prediction.frames or 0, size
    names, scale = {model.name for model in models}, prod(model.scale for model in models)
    for option, slug in LIGHT.items():
        network = registry.choose(slug).network
        if network in names or registry.scale_of(slug) > scale:
            continue
        seconds = frames * seconds_a_frame(registry.load(network)[0], width, height)
        if seconds < WORTH * (prediction.seconds or 0):
            yield f"{option} takes about {duration_text(seconds)}"
    if len(models) == 1 and models[0].report.startswith("OpenVINO") and "int8" not in models[0].report:
        fast, _ = registry.load(models[0].name, quality="fast")
        seconds = frames * seconds_a_frame(fast, width, height)
        if "int8" in fast.report and seconds < WORTH * (prediction.seconds or 0):
            yield f"--quality fast takes about {duration_text(seconds)}"
    if any("fp32" in model.report for model in models) and not any(isinstance(m, Predicting) for m in models):
        yield "--quality high if this CPU has bfloat16"
    if frames > 1:
        yield "--duration 3 upscales only three seconds, to try it"
    yield f"`upres tune --size {width}x{height}` finds the fastest runtime on this machine"
