"""The models that one attempt has chosen, combined into one. Each choice can be made once, before the models are used."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from upres.engine.color.convert import COEFFICIENTS, RANGES
from upres.engine.core.frame import Color, Layout
from upres.engine.core.model import Deepening, Model, Planar, Session, Spooling, Stepping
from upres.engine.models.chain import as_one
from upres.engine.models.registry import lighter
from upres.engine.models.stepped import NOTHING_LIGHTER, stepped
from upres.engine.pipeline.options import eight_bit_reason
from upres.service.domain.spec import MOST_CHAINED
from upres.service.telemetry.labels import model_label

from .channel import Form, Message

Turn = Callable[[], AbstractContextManager[None]]
Load = Callable[[str, int, str], tuple[Model, str | None]]


class ChosenModels:
    """The models of one attempt.

    form: the pixel format of the frames they accept. label: the metrics label of their frames. device: context manager that is
    entered while models are loaded.
    """

    def __init__(self, load: Load, device: Turn) -> None:
        self.form = Form()
        self.label = ""
        self._load = load
        self._device = device
        self._model: Model | None = None
        self._models: list[Model] = []

    @property
    def model(self) -> Model:
        """The chosen models combined into one; ValueError if none was chosen yet."""
        if self._model is None:
            raise ValueError("no model was chosen yet")
        return self._model

    @property
    def facts(self) -> dict[str, Any]:
        """The models' properties that are sent to the attempt."""
        names = ("name", "scale", "warmup", "report", "digest")
        levels = list(self.model.levels) if isinstance(self.model, Stepping) else []
        facts = {name: getattr(self.model, name) for name in names}
        return {**facts, "levels": levels, "eight_bits": eight_bit_reason(self._models)}

    def load(self, models: list[tuple[str, int]], content: str, *, steps: bool) -> str | None:
        """Load models that are applied one after the other; return a line for the user if a better model exists.

        steps: also load lighter networks that can replace a single model.
        """
        if not 0 < len(models) <= MOST_CHAINED:
            raise ValueError(f"a job has 1 to {MOST_CHAINED} models, not {len(models)}")
        with self._device():
            loaded = [self._load(slug, scale, content) for slug, scale in models]
            others = (
                [self._load(*each)[0] for each in lighter(*models[0], content)] if steps and len(models) == 1 else []
            )
        self._models, self.form = [model for model, _ in loaded], Form()
        self.label = model_label([slug for slug, _ in models])
        if levels := stepped(self._models[0], others):
            self._models = [levels]
        self._model = as_one(self._models)
        no_lighter_note = NOTHING_LIGHTER if steps and not levels else None
        return next((note for _, note in loaded if note), no_lighter_note)

    def deepen(self) -> None:
        """Replace the models by variants for frames of 16 bits."""
        with self._device():
            self._models = [model.deep() for model in self._models if isinstance(model, Deepening)]
        self._model, self.form = as_one(self._models), Form(bits=16)

    def take_planes(self, message: Message) -> bool:
        """Replace the model by a variant for planar frames; return False if RGB suits it better."""
        matrix, scope, siting = (message[name] for name in ("matrix", "range", "siting"))
        if matrix not in COEFFICIENTS or scope not in RANGES or siting not in ("left", "center"):
            raise ValueError("unknown color matrix, range or chroma siting")
        size = int(message["width"]), int(message["height"])
        model = self._models[0] if len(self._models) == 1 and min(size) > 0 and self.form.bits == 8 else None
        layout = Layout(Color(matrix, scope, "", ""), siting)  # the other color fields are not used
        with self._device():
            planar = model.on_planes(layout, *size) if isinstance(model, Planar) else None
        if planar is None:
            return False
        self._models, self._model, self.form = [planar], planar, Form(planar=True)
        return True

    def step(self, level: int) -> None:
        """Select which of several networks works from now on."""
        if isinstance(self.model, Stepping):
            if level not in range(len(self.model.levels)):
                raise ValueError(f"there is no level {level} of {len(self.model.levels)}")
            self.model.level = level

    def open(self, width: int, height: int, *, live: bool) -> Session:
        """Open a session. live: for a live source."""
        model = self.model
        return model.open(width, height, live=live) if isinstance(model, Spooling) else model.open(width, height)

    def memory(self, width: int, height: int, *, live: bool) -> int:
        """Predict the memory of such a session, in bytes."""
        model = self.model
        return model.memory(width, height, live=live) if isinstance(model, Spooling) else model.memory(width, height)
