"""Session on a device that keeps tiles of several frames in flight, so that copies and host work overlap with computation."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from upres.engine.core.errors import MemoryShortError
from upres.engine.core.frame import Frame
from upres.engine.runtime.base import Tensor
from upres.engine.runtime.ring.device import DeviceGraph
from upres.engine.runtime.ring.ring import Ring

from .padding import size_to_build_for
from .tensors import Result, Tensors
from .tiling import Plan

DEPTH = 3  # tiles in flight: one is copied in, one is computed, one is copied out

logger = logging.getLogger(__name__)

Tiles = Callable[[int | None], Plan]
"""Function that plans the tiles of a frame, none with more than the given number of pixels."""


@dataclass(slots=True, eq=False)
class _Pending:
    """Frame whose result is not complete. Compared by identity, because comparing pixels is never needed."""

    frame: Frame
    result: Result


class InFlightSession:
    """Session for frames of one size on a device. If device memory is low, tiles are halved and frames in flight restart.

    tensors: format of the frames. notes: messages for the user.
    """

    def __init__(self, graph: DeviceGraph, name: str, tensors: Tensors, tiles: Tiles, width: int, height: int) -> None:
        """Allocate device memory. Raises MemoryShortError if even the smallest tile is too large, ModelError if starting fails.

        name: of the network, for messages.
        """
        self._graph = graph
        self._name = name
        self._tensors = tensors
        self._plan = tiles
        self._size = width, height
        self._depth = self._most_waiting = DEPTH
        self._ring: Ring | None = None
        self._pending: deque[_Pending] = deque()
        self._latest: _Pending | None = None
        self.notes: list[str] = []
        self._tiles = tiles(None)
        self._start()

    def hold_none(self) -> None:
        """Return the result of every frame from the same call of `push`, as live sources require; keep one tile in flight."""
        self._depth, self._most_waiting = 1, 0
        self._start()

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Submit a frame; yield all complete results, so that only a few frames stay in flight even if none changes."""
        self._send([frame])
        yield from self._complete()
        while self._ring and len(self._pending) > self._most_waiting:
            self._collect()
            yield from self._complete()

    def flush(self) -> Iterator[Frame]:
        """Yield the frames in flight."""
        while self._ring:
            self._collect()
        yield from self._complete()

    def close(self) -> None:
        """Release the device memory; frames in flight are dropped."""
        self._pending.clear()
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _send(self, frames: Iterable[Frame]) -> None:
        """Submit every tile of some frames. If memory is low, resubmit all incomplete frames in smaller tiles.

        A frame that equals the previous one shares its result.
        """
        queue = deque(frames)
        while queue:
            frame = queue.popleft()
            before = self._latest
            if before is not None and np.array_equal(frame.pixels, before.frame.pixels):
                self._pending.append(_Pending(frame, before.result))
                continue
            self._latest = _Pending(frame, self._tensors.result(self._tiles))
            self._pending.append(self._latest)
            try:
                for tile in self._tensors.cut(self._tiles, frame.pixels):
                    self._submit(tile)
            except MemoryShortError as error:
                incomplete = [pending for pending in self._pending if not pending.result.complete]
                for pending in incomplete:
                    self._pending.remove(pending)
                queue.extendleft(pending.frame for pending in reversed(incomplete))
                self._latest = None
                self._halve(error)

    def _submit(self, tile: Mapping[str, Tensor]) -> None:
        assert self._ring is not None, "the session is closed"
        if self._ring.full:
            self._collect()
        self._ring.submit(tile)

    def _collect(self) -> None:
        """Add the oldest tile in flight to its frame."""
        assert self._ring is not None
        incomplete = next(pending for pending in self._pending if not pending.result.complete)
        incomplete.result.add(self._ring.collect())

    def _complete(self) -> Iterator[Frame]:
        while self._pending and self._pending[0].result.complete:
            pending = self._pending.popleft()
            yield replace(pending.frame, pixels=pending.result.pixels)

    def _start(self) -> None:
        """Allocate memory for tiles of the planned size, or of the largest smaller size that fits."""
        try:
            self._restart()
        except MemoryShortError as error:
            self._halve(error)

    def _halve(self, error: MemoryShortError) -> None:
        """Plan tiles with half as many pixels and restart with them; raise the error if they cannot be smaller."""
        before = self._tiles
        self._tiles = self._plan(before.largest // 2)
        if self._tiles.largest >= before.largest:
            raise error
        note = (
            f"GPU memory is low: {self._name} continues with tiles of {self._tiles.width}x{self._tiles.height} "
            f"instead of {before.width}x{before.height}"
        )
        self._note(f"{note} ({error})")
        self._start()

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
            logger.warning("%s", note)

    def _restart(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        tensors, tiles = self._tensors, self._tiles
        inputs = tensors.inputs(tiles)
        width, height = size_to_build_for(tensors.facts, *self._size, tiles)
        if note := self._graph.prepare(inputs, width=width, height=height):
            self._note(note)
        self._ring = Ring(self._graph, inputs, tensors.outputs(tiles), self._depth, between=tensors.between(tiles))
