"""Live runs whose network is too slow for the source: a lighter one takes over until there is capacity for the heavier one."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from upres.engine.core.model import Model, Stepping
from upres.engine.pipeline.progress import Progress

LOOK_SECONDS = 1.0  # interval between observations of frames received, made and dropped
DOWN_SECONDS = 3.0  # consecutive seconds with dropped frames after which a lighter network takes over
UP_SECONDS = 10.0  # consecutive seconds with capacity for the heavier network after which it returns; doubles each time
MOST_UP_SECONDS = 600.0  # limit of this doubling; a heavier network that kept up this long resets it
BUSY = 0.5  # least busy share of a network's own time (without turns) if it, rather than a later stage, is too slow
LEAST = 0.2  # least busy share of all time; below it, a lighter network that takes turns would make few more frames
ROOM = 0.7  # greatest share of the available time that the heavier network may be expected to use
TRIAL = 60  # multiple of the above wait without dropped frames after which it is tried even without expected capacity


@dataclass(frozen=True, slots=True)
class _Look:
    """Counts at one time. received, upscaled, dropped: frames. busy, turns: seconds that networks worked and waited for turns."""

    at: float
    received: int
    upscaled: int
    dropped: int
    busy: float
    turns: float


class StepDown:
    """Selects the active network of a model from counts alone: frames received and dropped, and how long networks were busy.

    The capacity for the heavier network is estimated from the ratio of its time per frame to the lighter one's. This ratio may be
    wrong, for example if other load on the machine ended at that time, so the heavier network is tried from time to time.
    progress: source of the counts, and where the active network is recorded. clock: returns seconds.
    """

    def __init__(self, model: Stepping, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._progress = progress
        self._clock = clock
        self._before = self._look()
        self._patience = UP_SECONDS
        self._slow = self._clear = self._roomy = 0.0  # consecutive seconds: with drops, without, with capacity
        self._up_at = self._before.at
        self._settles = False  # some frames since the last observation were made by another network
        self._costs: list[float] = []  # seconds per frame of each heavier network that was replaced
        self._ratios: list[float | None] = []  # each of these costs over the first cost of the network that replaced it
        progress.network = model.levels[model.level]

    def tick(self) -> None:
        """Change the network if necessary; called after every frame."""
        now, before = self._look(), self._before
        if now.at - before.at < LOOK_SECONDS:
            return
        self._before = now
        if not self._settles and now.received > before.received and now.upscaled > before.upscaled:
            self._judge(before, now)
        else:
            self._settles = False

    def _judge(self, before: _Look, now: _Look) -> None:
        seconds, busy = now.at - before.at, now.busy - before.busy
        cost = busy / (now.upscaled - before.upscaled)
        if self._ratios and self._ratios[-1] is None and cost:
            self._ratios[-1] = self._costs[-1] / cost
        ratio = self._ratios[-1] if self._ratios else None
        clear = now.dropped == before.dropped
        has_room = clear and ratio is not None and ratio * cost * (now.received - before.received) <= ROOM * seconds
        own = seconds - (now.turns - before.turns)
        is_slow = not clear and busy >= max(BUSY * own, LEAST * seconds)
        self._slow = self._slow + seconds if is_slow else 0.0
        self._clear = self._clear + seconds if clear else 0.0
        self._roomy = self._roomy + seconds if has_room else 0.0
        on_trial = self._progress.stepped_down and now.at - self._up_at < UP_SECONDS
        is_last = self._model.level + 1 == len(self._model.levels)
        if not is_last and self._slow >= (LOOK_SECONDS if on_trial else DOWN_SECONDS):
            self._down(cost, now.at)
        elif self._model.level and (self._roomy >= self._patience or self._clear >= TRIAL * self._patience):
            self._up(now.at)

    def _down(self, cost: float, now: float) -> None:
        if not self._progress.stepped_down:
            heavier = self._model.levels[self._model.level]
            note = f"{heavier} is too slow here for this source, so a lighter network works in its place until there is room"
            self._progress.warnings.append(note)
        elif now - self._up_at >= MOST_UP_SECONDS:
            self._patience = UP_SECONDS
        else:
            self._patience = min(MOST_UP_SECONDS, 2 * self._patience)
        self._progress.stepped_down += 1
        self._costs.append(cost)
        self._ratios.append(None)
        self._change(1)

    def _up(self, now: float) -> None:
        self._costs.pop()
        self._ratios.pop()
        self._up_at = now
        self._change(-1)

    def _change(self, by: int) -> None:
        self._model.level += by
        self._progress.network = self._model.levels[self._model.level]
        self._slow = self._clear = self._roomy = 0.0
        self._settles = True

    def _look(self) -> _Look:
        seen = self._progress
        return _Look(
            self._clock(), seen.frames_in, seen.frames_out, seen.frames_dropped, seen.seconds["infer"], seen.turns
        )


def stepping(models: Sequence[Model], progress: Progress, tick: Callable[[], None]) -> Callable[[], None]:
    """Return the callback of a live run after every frame: `tick` and, if the model has several networks, their selection."""
    [model, *others] = models
    progress.note_models(models)
    if others or not isinstance(model, Stepping) or len(model.levels) < 2:
        return tick
    step_down = StepDown(model, progress)

    def both() -> None:
        step_down.tick()
        tick()

    return both
