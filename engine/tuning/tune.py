"""Trials of all choices for a network, one after another."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from upres.engine.core.errors import ModelError
from upres.engine.models import manifest
from upres.engine.models.padding import cut
from upres.engine.models.tiling import Plan
from upres.engine.models.tuned import Choice, Row, Table, now
from upres.engine.runtime import registry as runtimes

from . import trial
from .trial import REFERENCE, Trial

TILES = (2048, 1024, 512, 256)


def tune(
    network: str,
    width: int,
    height: int,
    *,
    seconds: float,
    tiles: Sequence[int] = TILES,
    report: Callable[[str, Row | str], None] = lambda name, outcome: None,
) -> Table:
    """Measure every runtime, precision and tile size that can run here. seconds: for each of them, excluding loading.

    report: called with the name of each choice and its row, or the reason why it has none.
    Raises ModelError if the network is not installed, or if the reference itself cannot run.
    """
    choices = list(candidates(network, width, height, tiles))
    rows, failed = [], {}
    with tempfile.TemporaryDirectory(prefix="upres-tune-") as folder:
        reference = str(Path(folder) / "reference.npy")
        first = trial.run(Trial(network, REFERENCE, width, height, seconds, reference))
        for choice in choices:
            try:
                row = (
                    first
                    if choice == REFERENCE
                    else trial.run(Trial(network, choice, width, height, seconds, reference))
                )
            except ModelError as error:
                failed[name_of(choice)] = str(error)
                report(name_of(choice), str(error))
                continue
            rows.append(row)
            report(name_of(choice), row)
    return Table(network, width, height, tuple(rows), failed, now())


def candidates(network: str, width: int, height: int, tiles: Sequence[int] = TILES) -> Iterator[Choice]:
    """Yield all distinct choices: of tile sizes with the same plan, the default one or else the smallest."""
    _, facts = manifest.find(network)
    for runtime in runtimes.every():
        if runtime.unavailable() is not None:
            continue
        for precision in runtime.precisions():
            if facts.variant("fast", (precision,)).precision != precision:
                continue
            plans: dict[Plan, Choice] = {}
            for tile in sorted(tiles, key=lambda tile: (tile != REFERENCE.tile, tile)):
                choice = Choice(runtime.name, precision, tile)
                plans.setdefault(cut(facts, width, height, tile, on_device=runtime.device == "cuda"), choice)
            yield from plans.values()


def name_of(choice: Choice) -> str:
    """Return a choice's name for display."""
    return f"{choice.runtime} {choice.precision}, tiles up to {choice.tile}"
