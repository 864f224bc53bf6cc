"""A session on a device: tiles of several frames are under way at once, so that neither copies nor the host hold it up."""

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

DEPTH = 3  # tiles under way: one is copied in, one computes, one is copied out

logger = logging.getLogger(__name__)

Tiles = Callable[[int | None], Plan]
"""Plan the tiles of a frame, none with more pixels than this."""


@dataclass(slots=True, eq=False)
class _Pending:
    """A frame whose result is not complete; equal to itself alone, for its pixels are compared nowhere."""

    frame: Frame
    result: Result


class UnderWaySession:
    """Frames of one size on a device. Where its memory is short, tiles are halved and the frames under way begin again.

    tensors: what form frames have. notes: what happened that a user should know.
    """

    def __init__(self, graph: DeviceGraph, name: str, tensors: Tensors, tiles: Tiles, width: int, height: int) -> None:
        """Take the device's memory; MemoryShortError where the smallest tile is too large, ModelError where it cannot start.

        name: of the network, for people.
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
        """Give every frame from the push that brings it, as a live source needs it: one tile is under way at a time."""
        self._depth, self._most_waiting = 1, 0
        self._start()

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Send a frame on its way; yield those that are complete, which all but a few are, also while no frame changes."""
        self._send([frame])
        yield from self._complete()
        while self._ring and len(self._pending) > self._most_waiting:
            self._collect()
            yield from self._complete()

    def flush(self) -> Iterator[Frame]:
        """Yield the frames that are under way."""
        while self._ring:
            self._collect()
        yield from self._complete()

    def close(self) -> None:
        """Give the device's memory back; frames under way are dropped."""
        self._pending.clear()
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _send(self, frames: Iterable[Frame]) -> None:
        """Submit every tile of some frames, with smaller ones from the first that is not complete where memory is short.

        A frame that is the one before shares its result.
        """
        left = deque(frames)
        while left:
            frame = left.popleft()
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
                left.extendleft(pending.frame for pending in reversed(incomplete))
                self._latest = None
                self._halve(error)

    def _submit(self, tile: Mapping[str, Tensor]) -> None:
        assert self._ring is not None, "the session is closed"
        if self._ring.full:
            self._collect()
        self._ring.submit(tile)

    def _collect(self) -> None:
        """Put the oldest tile under way into its frame."""
        assert self._ring is not None
        incomplete = next(pending for pending in self._pending if not pending.result.complete)
        incomplete.result.add(self._ring.collect())

    def _complete(self) -> Iterator[Frame]:
        while self._pending and self._pending[0].result.complete:
            pending = self._pending.popleft()
            yield replace(pending.frame, pixels=pending.result.pixels)

    def _start(self) -> None:
        """Take memory for tiles of the size that is planned, or of the largest below it that there is memory for."""
        try:
            self._restart()
        except MemoryShortError as error:
            self._halve(error)

    def _halve(self, error: MemoryShortError) -> None:
        """Plan tiles of half as many pixels and begin with them; raise the error where they cannot be smaller."""
        before = self._tiles
        self._tiles = self._plan(before.largest // 2)
        if self._tiles.largest >= before.largest:
            raise error
        note = (
            f"the GPU's memory is short: {self._name} goes on with tiles of {self._tiles.width}x{self._tiles.height}, "
            f"not {before.width}x{before.height}"
        )
        self._tell(f"{note} ({error})")
        self._start()

    def _tell(self, note: str) -> None:
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
            self._tell(note)
        self._ring = Ring(self._graph, inputs, tensors.outputs(tiles), self._depth, between=tensors.between(tiles))
