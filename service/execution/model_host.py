"""The worker's side of a channel: the models and sessions of one attempt, each of whose steps takes a turn on the device.

A request is a message whose `do` names the operation. The reply consists of frames or the description of shared memory, if any,
followed by `{"end": value}` or `{"error": …, "text": …}`.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from upres.engine.core.frame import Frame
from upres.engine.core.model import Pipelined, Session, Stoppable
from upres.engine.pipeline.admission import check_live_capacity
from upres.engine.pipeline.encoders import AnotherEncoder
from upres.engine.pipeline.estimate import seconds_a_frame

from .channel import MAX_PIXELS_UPSCALED, Channel, Form, Message
from .chosen_models import ChosenModels, Load, Turn
from .encoding.encoder_host import EncoderHosts, picture_bytes
from .memory_budget import Claim, MemoryBudget
from .ranges.line import Line
from .shared_frames import shared_bytes

MAX_SESSIONS = 4  # per attempt, which needs one at a time

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session and the size and format of the frames that it accepts."""

    session: Session
    width: int
    height: int
    form: Form

    def check(self, frame: Frame) -> None:
        """Raise ValueError if a frame does not match."""
        if (frame.width, frame.height) != (self.width, self.height):
            raise ValueError(f"a session of {self.width}x{self.height} got a frame of {frame.width}x{frame.height}")
        if Form.of(frame) != self.form:
            raise ValueError(f"a frame whose format the model does not accept, {Form.of(frame)}")


class ModelHost:
    """Server of one attempt's requests. device: context manager entered while a model works, which serializes the attempts.

    memory, merging: the attempt's claims on the memory for models and for merging ranges. encoders: the GPU's encoders, if any.
    line: the queue of the device's ranges, if the attempt processes a range. live: whether its source is live.
    on_frames: called with the metrics label and the number of frames produced, during the attempt's turn.
    """

    def __init__(
        self,
        channel: Channel,
        load: Load,
        device: Turn,
        memory: Claim,
        merging: Claim | None = None,
        encoders: EncoderHosts | None = None,
        *,
        line: Line | None = None,
        live: bool = False,
        on_frames: Callable[[str, int], None] = lambda label, count: None,
    ) -> None:
        self._channel = channel
        self._device = device
        self._chosen = ChosenModels(load, device)
        self._memory = memory
        self._merging = merging or Claim(MemoryBudget(0))
        self._line = line or Line()
        self._live = live
        self._turn = ExitStack()  # the turn on the device, while there is one
        self._sessions: dict[int, _Opened] = {}
        self._encoders = encoders or EncoderHosts(None)
        self._on_frames = on_frames
        self._opened = 0
        self._interrupted = False
        self.frame_bytes = 0  # of the largest frame that its sessions accept
        self.pixels = 0  # of the largest upscaled frame of any session so far

    def answer(self, message: Message, frame: Frame | None) -> None:
        """Execute a request and reply; errors are sent to the attempt."""
        try:
            end = self._do(message, frame)
        except Exception as error:  # any error fails the attempt only
            self._channel.send({"error": type(error).__name__, "text": str(error)})
        else:
            self._channel.send({"end": end})

    @property
    def waited(self) -> float:
        """Return the seconds that the attempt has waited for resources that others hold. From any thread."""
        return self._memory.waited + self._merging.waited

    def interrupt(self) -> None:
        """Stop soon what still runs for an attempt that is gone. From any thread."""
        self._interrupted = True
        self._line.wake()
        for opened in tuple(self._sessions.values()):
            if isinstance(opened.session, Stoppable):
                opened.session.stop()

    def close(self) -> None:
        """Close the sessions and encoders that the attempt left open."""
        self._encoders.close()
        while self._sessions:
            try:
                with self._device():
                    self._sessions.popitem()[1].session.close()
            except Exception:  # a failure here must not lose the attempt's verdict or its slot
                logger.exception("a session cannot be closed")
        self._memory.release()
        self._merging.release()
        self._line.leave(self)

    def _do(self, message: Message, frame: Frame | None) -> Any:  # noqa: ANN401 - JSON
        match message["do"]:
            case "model":
                self._check_unused()
                note = self._chosen.load(message["models"], message["content"], steps=bool(message.get("steps")))
                nvenc = {"nvenc": self._encoders.free, "may_have_nvenc": self._encoders.available}
                return {**self._chosen.facts, "note": note, **nvenc}
            case "deepen":
                self._check_unused()
                self._chosen.deepen()
                return self._chosen.facts
            case "on planes":
                self._check_unused()
                return self._chosen.facts if self._chosen.take_planes(message) else None
            case "memory":
                return self._chosen.model.memory(message["width"], message["height"])
            case "merge":
                self._merge(int(message["media"]))
            case "reserve":
                return self._count_encoders(message) if self._reserve(message) else 0
            case "encoder" if self._memory.reserved:
                self._channel.send_end(self._encoders.open())
            case "check live":
                with self._device():
                    check_live_capacity(self._chosen.model, message["width"], message["height"], message["rate"])
            case "open":
                return self._open(int(message["width"]), int(message["height"]))
            case "push" if frame is not None:
                opened = self._sessions[message["session"]]
                opened.check(frame)
                self._chosen.step(message.get("level", 0))
                self._send(opened.session.push(frame))
            case "flush":
                self._send(self._sessions[message["session"]].session.flush())
            case "close":
                with self._device():
                    self._sessions.pop(message["session"]).session.close()
                if not self._sessions:
                    self._line.exit(self)
            case other:
                raise ValueError(f"unknown request {other!r}")
        return None

    def _check_unused(self) -> None:
        if self._memory.reserved or self._sessions:
            raise ValueError("models must be chosen before memory is reserved")

    def _reserve(self, message: Message) -> bool:
        """Wait until the model's memory for frames of this size and `media` bytes for everything else fit.

        Then share memory for the frames themselves, which is included in the reservation. Return False, without a reservation, if a
        GPU encoder was requested and none is free.
        """
        scale = self._chosen.model.scale
        width, height, media = (int(message[name]) for name in ("width", "height", "media"))
        if self._memory.reserved or media < 0:
            raise ValueError("memory can be reserved only once, and not a negative amount")
        if width <= 0 or height <= 0 or width * height > MAX_PIXELS_UPSCALED:
            raise ValueError(f"cannot reserve memory for frames of {width}x{height}")
        frame = self._chosen.form.bytes_of(width, height)
        sizes = frame, frame * scale**2
        needed = media + self._chosen.memory(width, height, live=self._live) + shared_bytes(sizes)
        self._merging.release()
        if not message.get("nvenc"):
            self._reserve_memory(needed)
        else:
            pictures = width * scale, height * scale
            if not self._reserve_both(needed + picture_bytes(*pictures), waits=bool(message.get("waits"))):
                return False
            self._encoders.set_size(*pictures)
        self._line.hold(self)
        self._channel.share(sizes)
        return True

    def _reserve_memory(self, needed: int) -> None:
        """Wait for memory. A range that is not first in line waits its turn unless there is memory that no attempt waits for."""
        if self._line.is_first(self) or not self._memory.grant(needed, 1):
            self._memory.wait(partial(self._line.become_first, self, self._attempt_ended))
            self._memory.reserve(needed, self._attempt_ended)

    def _reserve_both(self, needed: int, *, waits: bool) -> bool:
        """Reserve memory and a GPU encoder; hold neither while waiting for the other. Return whether both were reserved.

        waits: also wait for an encoder; otherwise release the memory and return False if none is free.
        """
        while True:
            self._reserve_memory(needed)
            if self._encoders.claim(1):
                return True
            self._memory.release()
            if not waits:
                return False
            self._memory.wait(partial(self._encoders.wait, self._attempt_ended))
            if self._line.is_first(self) and self._memory.take_now(needed):
                return True
            self._encoders.leave(1)

    def _merge(self, media: int) -> None:
        """Wait for the memory of an attempt that merges ranges, which other attempts upscale and encode."""
        self._check_unused()
        if self._merging.reserved or media < 0:
            raise ValueError("memory for merging can be reserved only once, and not a negative amount")
        self._merging.reserve(media, self._attempt_ended)

    def _count_encoders(self, message: Message) -> int:
        """Return the number of encoders that an attempt may use: several if the model is faster than one and memory allows."""
        requested = message["encoder"]
        another = AnotherEncoder(int(requested["bytes"]), float(requested["frame_seconds"]), int(requested["most"]))
        if self._live or another.most < 2 or another.bytes <= 0:
            return 1
        with self._device():
            frame = int(message["width"]), int(message["height"])
            seconds = seconds_a_frame(self._chosen.model, *frame, deep=self._chosen.form.bits > 8)
        size = another.bytes + self._encoders.bytes_each
        additional = another.needed(seconds) - 1
        if not self._encoders.bytes_each:
            return 1 + self._memory.grant(size, additional)
        claimed = self._encoders.claim(additional)
        granted = self._memory.grant(size, claimed)
        self._encoders.leave(claimed - granted)
        return 1 + granted

    def _open(self, width: int, height: int) -> int:
        """Open a session and return its number."""
        if len(self._sessions) >= MAX_SESSIONS:
            raise ValueError(f"{MAX_SESSIONS} sessions are open already, the maximum")
        if width <= 0 or height <= 0 or width * height > MAX_PIXELS_UPSCALED:
            raise ValueError(f"cannot open a session of {width}x{height}")
        self._memory.wait(partial(self._line.enter, self, self._attempt_ended))
        with self._device(), ExitStack() as undo:
            session = self._chosen.open(width, height, live=self._live)
            undo.callback(session.close)
            if isinstance(session, Stoppable):
                session.between = self._lend
            if self._live and isinstance(session, Pipelined):
                session.hold_none()
            undo.pop_all()
        self._opened += 1
        form, scale = self._chosen.form, self._chosen.model.scale
        self.pixels = max(self.pixels, width * height * scale**2)
        self._sessions[self._opened] = _Opened(session, width, height, form)
        self.frame_bytes = max(self.frame_bytes, form.bytes_of(width, height))
        return self._opened

    def _attempt_ended(self) -> bool:
        return self._interrupted

    def _send(self, frames: Iterable[Frame]) -> None:
        """Send frames as they are produced. For a live source, all frames of one push, usually one, share a single turn."""
        results = iter(frames)
        while True:
            with self._turn:
                self._turn.enter_context(self._device())
                batch = list(results) if self._live else list(islice(results, 1))
                self._on_frames(self._chosen.label, len(batch))
            for frame in batch:
                self._channel.send({}, frame)
            if self._live or not batch:
                return

    def _lend(self) -> None:
        """Yield the device to the next attempt between two steps, because a model may work on a whole shot at once."""
        self._turn.close()
        self._turn.enter_context(self._device())
