"""The models that one attempt has chosen, as one, and the frames that they take; each choice is made once, before any is used."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from upres.engine.color.convert import COEFFICIENTS, RANGES
from upres.engine.core.frame import Color, Layout
from upres.engine.core.model import Deepening, Model, Planar, Session, Spooling, Stepping
from upres.engine.models.chain import as_one
from upres.engine.models.registry import lighter
from upres.engine.models.stepped import NOTHING_LIGHTER, stepped
from upres.engine.pipeline.options import eight_bits
from upres.service.domain.spec import MOST_CHAINED
from upres.service.telemetry.labels import model_label

from .channel import Form, Message

Turn = Callable[[], AbstractContextManager[None]]
Load = Callable[[str, int, str], tuple[Model, str | None]]


class ChosenModels:
    """form: of the frames that they take. label: what these are counted under. device: entered while models are made."""

    def __init__(self, load: Load, device: Turn) -> None:
        self.form = Form()
        self.label = ""
        self._load = load
        self._device = device
        self._model: Model | None = None
        self._models: list[Model] = []

    @property
    def model(self) -> Model:
        """All of them as one; ValueError where none was chosen yet."""
        if self._model is None:
            raise ValueError("no model was chosen yet")
        return self._model

    @property
    def facts(self) -> dict[str, Any]:
        """What an attempt knows of them."""
        names = ("name", "scale", "warmup", "report", "digest")
        levels = list(self.model.levels) if isinstance(self.model, Stepping) else []
        facts = {name: getattr(self.model, name) for name in names}
        return {**facts, "levels": levels, "eight_bits": eight_bits(self._models)}

    def load(self, models: list[tuple[str, int]], content: str, *, steps: bool) -> str | None:
        """Load models, which work one after the other; give a line for the user where a better one exists.

        steps: lighter ones as well, that can take the place of a single one.
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
        alone = NOTHING_LIGHTER if steps and not levels else None
        return next((note for _, note in loaded if note), alone)

    def deepen(self) -> None:
        """Take them for frames of 16 bits instead."""
        with self._device():
            self._models = [model.deep() for model in self._models if isinstance(model, Deepening)]
        self._model, self.form = as_one(self._models), Form(bits=16)

    def take_planes(self, message: Message) -> bool:
        """Take a model for frames in planes instead; False where RGB serves it better."""
        matrix, scope, siting = (message[name] for name in ("matrix", "range", "siting"))
        if matrix not in COEFFICIENTS or scope not in RANGES or siting not in ("left", "center"):
            raise ValueError("colors that there are none of")
        size = int(message["width"]), int(message["height"])
        model = self._models[0] if len(self._models) == 1 and min(size) > 0 and self.form.bits == 8 else None
        layout = Layout(Color(matrix, scope, "", ""), siting)  # it computes nothing with the rest
        with self._device():
            planar = model.on_planes(layout, *size) if isinstance(model, Planar) else None
        if planar is None:
            return False
        self._models, self._model, self.form = [planar], planar, Form(planar=True)
        return True

    def step(self, level: int) -> None:
        """Let one network of several work from now on."""
        if isinstance(self.model, Stepping):
            if level not in range(len(self.model.levels)):
                raise ValueError(f"there is no level {level} of {len(self.model.levels)}")
            self.model.level = level

    def open(self, width: int, height: int, *, live: bool) -> Session:
        """Open a session; live: of a live source."""
        model = self.model
        return model.open(width, height, live=live) if isinstance(model, Spooling) else model.open(width, height)

    def memory(self, width: int, height: int, *, live: bool) -> int:
        """Predict the bytes of such a session."""
        model = self.model
        return model.memory(width, height, live=live) if isinstance(model, Spooling) else model.memory(width, height)
