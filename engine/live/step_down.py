"""A live run whose network is too slow for its source: a lighter one takes over, and the heavier one again when there is room."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from upres.engine.core.model import Model, Stepping
from upres.engine.pipeline.progress import Progress

LOOK_SECONDS = 1.0  # between two looks at what came, was made and was left out
DOWN_SECONDS = 3.0  # in a row, in which frames were left out, until a lighter network takes over
UP_SECONDS = 10.0  # in a row, in which the heavier one would have had room, until it works again; doubles each time
MOST_UP_SECONDS = 600.0  # that this becomes; a network that kept up for as long is given a new start
BUSY = 0.5  # of the time, less its turns, that a network works at least where it is too slow, not what comes behind it
LEAST = 0.2  # of all the time, as well: of one that takes turns and works less, a lighter one makes few more frames
ROOM = 0.7  # of the time that there is, what the heavier network may be expected to take
TRIAL = 60  # times as long, with nothing left out, until it is tried even where no room is expected


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    came: int
    made: int
    left_out: int
    busy: float
    turns: float


class StepDown:
    """Decides which network of a model works, by counts alone: what came, what was left out, and how long networks were busy.

    Whether there is room for the heavier one is expected from how much longer than the lighter one it took for a frame. Where
    that was measured wrong, as when what else the machine did has ended just then, a trial shows it.
    progress: what it looks at, and where it says which network works. clock: seconds.
    """

    def __init__(self, model: Stepping, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._progress = progress
        self._clock = clock
        self._before = self._look()
        self._patience = UP_SECONDS
        self._slow = self._clear = self._roomy = 0.0  # seconds in a row: something left out, nothing, and room for more
        self._up_at = self._before.at
        self._settles = False  # what was made since the last look is in part another network's
        self._costs: list[float] = []  # seconds that a frame took, of each network that was left for the next one
        self._ratios: list[float | None] = []  # of that, over what the next one took for a frame at first
        progress.network = model.levels[model.level]

    def tick(self) -> None:
        """Change the network where it is time; called after every frame."""
        now, before = self._look(), self._before
        if now.at - before.at < LOOK_SECONDS:
            return
        self._before = now
        if not self._settles and now.came > before.came and now.made > before.made:
            self._judge(before, now)
        else:
            self._settles = False

    def _judge(self, before: _Look, now: _Look) -> None:
        seconds, busy = now.at - before.at, now.busy - before.busy
        cost = busy / (now.made - before.made)
        if self._ratios and self._ratios[-1] is None and cost:
            self._ratios[-1] = self._costs[-1] / cost
        ratio = self._ratios[-1] if self._ratios else None
        clear = now.left_out == before.left_out
        has_room = clear and ratio is not None and ratio * cost * (now.came - before.came) <= ROOM * seconds
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
    """Return what a live run calls after every frame: `tick`, and a look at whether another network of its model has to work."""
    [model, *others] = models
    progress.note_models(models)
    if others or not isinstance(model, Stepping) or len(model.levels) < 2:
        return tick
    step_down = StepDown(model, progress)

    def both() -> None:
        step_down.tick()
        tick()

    return both
