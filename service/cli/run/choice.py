"""The choice of models for a source: those named by options, or the one recommended for its height."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from operator import mul

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.core.model import Model
from upres.engine.models import registry
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.models.stepped import NOTHING_LIGHTER, stepped
from upres.engine.pipeline import advice
from upres.service.cli import signals
from upres.service.cli.options import scale_error

from .options import ModelOptions

BY_SCALE = {2: "RealESRGAN_Vid_x2", 3: "RealESRGAN_Vid_x4", 4: "RealESRGAN_Vid_x4"}
"""The model for each scale; if none has exactly that scale, the next larger one, whose result is resampled."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Models by name. scales: of each. times: the output scale; a larger result is resampled. why: a note for the user."""

    names: tuple[str, ...]
    scales: tuple[int, ...]
    times: int
    why: str | None = None

    @property
    def resampled(self) -> bool:
        """Report whether the models upscale more than requested."""
        return self.times < prod(self.scales)


# Names, scales, and which of them `upres tune` decides for.
_Key = tuple[tuple[str, ...], tuple[int, ...], tuple[bool, ...]]


class Choice:
    """Chooser of models, which loads each only once."""

    def __init__(self, options: ModelOptions) -> None:
        self._options = options
        self._loaded: dict[_Key, tuple[tuple[Model, ...], list[str]]] = {}
        self._reported: set[str] = set()

    def explicit(self) -> Selection | None:
        """Return the models that the options name; None if the source decides. Raises SettingsError and ModelError."""
        scale, chain, model = self._options.scale, self._options.chain, self._options.model
        if chain is not None:
            if model is not None:
                raise SettingsError(
                    "--model and --chain exclude each other; name all models in --chain, one after the other"
                )
            names = tuple(name.strip() for name in chain.split(","))
            scales = tuple(self._scale_in_chain(name) for name in names)
            return Selection(names, scales, prod(scales))
        if model is not None:
            times = registry.scale_of(model, scale)
            return Selection((model,), (times,), times)
        if scale is None:
            return None
        if scale not in BY_SCALE:
            raise scale_error(scale)
        name = BY_SCALE[scale]
        why = f"no network here upscales 3 times: {name} upscales 4 times, resampled to 3" if scale == 3 else None
        return Selection((name,), (registry.scale_of(name),), scale, why)

    def recommended(self, height: int) -> Selection:
        """Return the recommended model for a source of a height, its shorter side in pixels; 0 if it is unknown."""
        name = advice.model_for(height)
        times = registry.scale_of(name)
        of = f"{height}p" if height else "size not known yet"
        other = "--scale 2 gives half the size" if times == 4 else "--scale 4 gives twice the size"
        return Selection((name,), (times,), times, f"{of}: upscaled {times} times by {name}; {other}")

    def load(
        self, selection: Selection, frame: tuple[int, int] | None = None, resumed: Collection[str] = ()
    ) -> tuple[tuple[Model, ...], list[str]]:
        """Load models; returns them, and notes for the user, each note only once.

        frame: width and height of the source's frames, if known. resumed: as in `registry.load`.
        """
        models, notes = self.preload(selection, frame, resumed)
        notes = [note for note in (selection.why, *notes) if note is not None and note not in self._reported]
        self._reported |= set(notes)
        return models, notes

    def preload(
        self, selection: Selection, frame: tuple[int, int] | None = None, resumed: Collection[str] = ()
    ) -> tuple[tuple[Model, ...], list[str]]:
        """Load models as `load` does, which then returns the same ones; returns all notes about them."""
        options, frames = self._options, _frames(selection, frame)
        named = list(zip(selection.names, selection.scales, frames, strict=True))
        key = selection.names, selection.scales, tuple(self._is_tuned(*each) for each in named)
        if key not in self._loaded:
            how = {"content": options.content, "quality": options.quality, "runtime": options.runtime}
            with signals.exiting_on_signals():
                pairs = [registry.load(name, scale=n, frame=each, resumed=resumed, **how) for name, n, each in named]
            models = tuple(model for model, _ in pairs)
            self._loaded[key] = models, [*(note for _, note in pairs if note), *self._notes(models)]
        return self._loaded[key]

    @property
    def named_by(self) -> str:
        """Return " instead of --model" if that option names the models, likewise for --chain; else an empty text."""
        options = self._options
        return " instead of --chain" if options.chain else " instead of --model" if options.model else ""

    def is_untuned(self, models: Collection[Model]) -> bool:
        """Report whether `upres tune` could choose another runtime: it is not named, and no measurement decided for any model."""
        single = [model for model in models if isinstance(model, PerFrameModel)]
        return self._options.runtime == "auto" and bool(single) and not any(model.why for model in single)

    def alternative(self, name: str, frame: tuple[int, int], **changed: str) -> Model:
        """Load another model with the same options, except for those that are changed. frame, errors: as for `registry.load`."""
        options = self._options
        how = {"content": options.content, "quality": options.quality} | changed
        with signals.exiting_on_signals():
            return registry.load(name, runtime=options.runtime, scale=None, frame=frame, **how)[0]

    def load_stepped(self, selection: Selection) -> tuple[tuple[Model, ...], list[str]]:
        """Load a model with lighter ones that can replace it. Returns as `load`; raises SettingsError for a chain."""
        if len(selection.names) > 1:
            raise SettingsError("--step-down is for one model, and --chain names several; remove one of them")
        options, [scale] = self._options, selection.scales
        (model,), notes = self.load(selection)
        with signals.exiting_on_signals():
            lighter_models = [
                registry.load(name, scale=times, content=content, quality=options.quality, runtime=options.runtime)[0]
                for name, times, content in registry.lighter(selection.names[0], scale, options.content)
            ]
        levels = stepped(model, lighter_models)
        return (levels or model,), [*notes, *([] if levels else [NOTHING_LIGHTER])]

    def _is_tuned(self, name: str, scale: int, frame: tuple[int, int] | None) -> bool:
        options = self._options
        return options.runtime == "auto" and registry.is_tuned(name, options.content, scale, frame)

    def _scale_in_chain(self, name: str) -> int:
        """Return the scale of a model in a chain; the --scale option applies to models that support several."""
        try:
            return registry.scale_of(name, self._options.scale if len(registry.scales_of(name)) > 1 else None)
        except ModelError as error:
            raise ModelError(f"--chain must list models separated by commas, such as x4,x2: {error}") from error

    def _notes(self, models: tuple[Model, ...]) -> list[str]:
        notes = [model.why for model in models if isinstance(model, PerFrameModel) and model.why]
        if self._options.quality == "high" and (exact := [model.report for model in models if "fp32" in model.report]):
            openvino = exact[0].startswith("OpenVINO")
            why = "this CPU has no bfloat16" if openvino else "this runtime computes in float32 only"
            notes.append(f"{why}, so high is exact ({exact[0]})")
        if self._options.quality == "fast" and (other := [each.report for each in models if "int8" not in each.report]):
            notes.append(f"this runtime has no int8, so fast is no faster than high ({other[0]})")
        if [model.scale for model in models].count(2) > 1:
            notes.append("x2 after x2 upscales artefacts twice; x4 is the better choice for 4 times")
        return notes


def _frames(selection: Selection, frame: tuple[int, int] | None) -> list[tuple[int, int] | None]:
    """List the sizes of the frames that each model gets; the source's are the first model's."""
    if frame is None:
        return [None] * len(selection.scales)
    before = accumulate((1, *selection.scales[:-1]), mul)
    return [(frame[0] * scale, frame[1] * scale) for scale in before]
