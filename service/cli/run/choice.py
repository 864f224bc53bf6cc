"""Which models a source gets: those that were named, or the one that its height asks for."""

from collections.abc import Collection
from dataclasses import dataclass
from math import prod

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.core.model import Model
from upres.engine.models import registry
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.models.stepped import NOTHING_LIGHTER, stepped
from upres.engine.pipeline import advice
from upres.service.cli import signals
from upres.service.cli.options import scale_refused

from .options import ModelOptions

BY_SCALE = {2: "RealESRGAN_Vid_x2", 3: "RealESRGAN_Vid_x4", 4: "RealESRGAN_Vid_x4"}
"""The model that gives so much, or the next more, which is resampled."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Models by name. scales: of each. times: output over input, to which more is resampled. why: what a user should know."""

    names: tuple[str, ...]
    scales: tuple[int, ...]
    times: int
    why: str | None = None

    @property
    def resampled(self) -> bool:
        """Tell whether the models give more than is wanted."""
        return self.times < prod(self.scales)


class Choice:
    """Chooses and loads models, each once."""

    def __init__(self, options: ModelOptions) -> None:
        self._options = options
        self._loaded: dict[tuple[tuple[str, ...], tuple[int, ...]], tuple[Model, ...]] = {}
        self._said: set[str] = set()

    def named(self) -> Wanted | None:
        """Give the models that were asked for; None where the source decides. Raises SettingsError, ModelError."""
        scale, chain, model = self._options.scale, self._options.chain, self._options.model
        if chain is not None:
            if model is not None:
                raise SettingsError(
                    "--model and --chain exclude each other; name all models in --chain, one after the other"
                )
            names = tuple(name.strip() for name in chain.split(","))
            scales = tuple(self._scale_in_chain(name) for name in names)
            return Wanted(names, scales, prod(scales))
        if model is not None:
            times = registry.scale_of(model, scale)
            return Wanted((model,), (times,), times)
        if scale is None:
            return None
        if scale not in BY_SCALE:
            raise scale_refused(scale)
        name = BY_SCALE[scale]
        why = f"no network here gives 3 times: {name} gives 4, resampled to 3" if scale == 3 else None
        return Wanted((name,), (registry.scale_of(name),), scale, why)

    def advised(self, height: int) -> Wanted:
        """Give the model that the guide advises for a source of this height, its shorter side in pixels; 0 is not known."""
        name = advice.model_for(height)
        times = registry.scale_of(name)
        of = f"{height}p" if height else "of a size that is not known yet"
        other = "--scale 2 is half of that" if times == 4 else "--scale 4 gives twice as much"
        return Wanted((name,), (times,), times, f"{of}: upscaled {times} times by {name}; {other}")

    def load(self, wanted: Wanted, resumed: Collection[str] = ()) -> tuple[tuple[Model, ...], list[str]]:
        """Load models; gives them, and what a user should know of them, each once. resumed: as in `registry.load`."""
        key = (wanted.names, wanted.scales)
        notes = [] if wanted.why is None or wanted.why in self._said else [wanted.why]
        self._said |= set(notes)
        if key in self._loaded:
            return self._loaded[key], notes
        options = self._options
        how = {"content": options.content, "quality": options.quality, "runtime": options.runtime}
        with signals.immediate():
            pairs = [registry.load(name, scale=scale, resumed=resumed, **how) for name, scale in zip(*key, strict=True)]
        models = self._loaded[key] = tuple(model for model, _ in pairs)
        return models, [*notes, *(note for _, note in pairs if note), *self._notes(models)]

    def load_stepped(self, wanted: Wanted) -> tuple[tuple[Model, ...], list[str]]:
        """Load a model with lighter ones that can take its place. As `load`; SettingsError for several one after the other."""
        if len(wanted.names) > 1:
            raise SettingsError("--step-down is for one model, and --chain names several; leave one of them out")
        options, [scale] = self._options, wanted.scales
        (model,), notes = self.load(wanted)
        with signals.immediate():
            others = [
                registry.load(name, scale=times, content=content, quality=options.quality, runtime=options.runtime)[0]
                for name, times, content in registry.lighter(wanted.names[0], scale, options.content)
            ]
        levels = stepped(model, others)
        return (levels or model,), [*notes, *([] if levels else [NOTHING_LIGHTER])]

    def _scale_in_chain(self, name: str) -> int:
        """In a chain, the scale is for those models that offer several."""
        try:
            return registry.scale_of(name, self._options.scale if len(registry.scales_of(name)) > 1 else None)
        except ModelError as error:
            raise ModelError(f"--chain names models one after the other, as x4,x2: {error}") from error

    def _notes(self, models: tuple[Model, ...]) -> list[str]:
        notes = [model.why for model in models if isinstance(model, PerFrameModel) and model.why]
        if self._options.quality == "high" and (exact := [model.report for model in models if "fp32" in model.report]):
            openvino = exact[0].startswith("OpenVINO")
            why = "this CPU has no bfloat16" if openvino else "this runtime computes in float32 only"
            notes.append(f"{why}, so high is exact ({exact[0]})")
        if self._options.quality == "fast" and (other := [each.report for each in models if "int8" not in each.report]):
            notes.append(f"not in int8 on this runtime, so fast is no faster than high ({other[0]})")
        if [model.scale for model in models].count(2) > 1:
            notes.append("x2 after x2 upscales artefacts twice; x4 is the better way to 4")
        return notes
