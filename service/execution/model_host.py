"""The worker's side of a channel: one attempt's models and sessions, and a turn on the device for each step of them.

A question is a message whose `do` names it. The reply is frames or shared memory for them, if any, then `{"end": value}` or
`{"error": …, "text": …}`.
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
from upres.engine.pipeline.admission import refuse_what_cannot_run_live
from upres.engine.pipeline.encoders import AnotherEncoder
from upres.engine.pipeline.estimate import seconds_a_frame

from .channel import MOST_PIXELS_UPSCALED, Channel, Form, Message
from .chosen_models import ChosenModels, Load, Turn
from .encoding.encoder_host import EncoderHosts, picture_bytes
from .memory_budget import Claim, MemoryBudget
from .ranges.line import Line
from .shared_frames import shared_bytes

MOST_SESSIONS = 4  # of one attempt; it needs one at a time

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session and the frames that it takes."""

    session: Session
    width: int
    height: int
    form: Form

    def check(self, frame: Frame) -> None:
        """Raise ValueError for any other frame."""
        if (frame.width, frame.height) != (self.width, self.height):
            raise ValueError(f"a session of {self.width}x{self.height} takes no {frame.width}x{frame.height}")
        if Form.of(frame) != self.form:
            raise ValueError(f"a frame of another form than the model takes, {Form.of(frame)}")


class ModelHost:
    """Answers one attempt. device: entered while a model works, which serialises attempts. memory: what it takes of all.

    live: of a live source. encoders: the GPU's, if any. line: of the device's ranges, where it makes one.
    made: called with what frames are counted under, and how many of them were made, in the attempt's turn.
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
        made: Callable[[str, int], None] = lambda label, count: None,
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
        self._made = made
        self._opened = 0
        self._gone = False
        self.frame_bytes = 0  # of the largest frame that its sessions take
        self.pixels = 0  # of the largest frame that it has made a session for, upscaled

    def answer(self, message: Message, frame: Frame | None) -> None:
        """Do what an attempt asks and reply; errors go to the attempt."""
        try:
            end = self._do(message, frame)
        except Exception as error:  # whatever it is, it is the attempt that failed
            self._channel.send({"error": type(error).__name__, "text": str(error)})
        else:
            self._channel.send({"end": end})

    @property
    def waited(self) -> float:
        """Give the seconds that the attempt has waited for what others have. From any thread."""
        return self._memory.waited + self._merging.waited

    def interrupt(self) -> None:
        """End soon what is still done for an attempt that is gone. From any thread."""
        self._gone = True
        self._line.look()
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
            except Exception:  # it must cost neither the verdict on the attempt nor its slot
                logger.exception("a session cannot be closed")
        self._memory.release()
        self._merging.release()
        self._line.leave(self)

    def _do(self, message: Message, frame: Frame | None) -> Any:  # noqa: ANN401 - JSON
        match message["do"]:
            case "model":
                self._check_unused()
                note = self._chosen.load(message["models"], message["content"], steps=bool(message.get("steps")))
                nvenc = {"nvenc": self._encoders.free, "may_have_nvenc": self._encoders.there}
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
            case "encoder" if self._memory.held:
                self._channel.send_end(self._encoders.open())
            case "check live":
                with self._device():
                    refuse_what_cannot_run_live(
                        self._chosen.model, message["width"], message["height"], message["rate"]
                    )
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
                raise ValueError(f"there is nothing to do named {other!r}")
        return None

    def _check_unused(self) -> None:
        if self._memory.held or self._sessions:
            raise ValueError("models are chosen before memory is reserved for them")

    def _reserve(self, message: Message) -> bool:
        """Wait until what an attempt takes fits: its model's memory for frames of a size, and so many bytes for all else.

        Then share memory for the frames themselves, which is counted, too. Tells whether it has all of that: not where a GPU was
        to encode what becomes of them, and has no encoder left.
        """
        scale = self._chosen.model.scale
        width, height, media = (int(message[name]) for name in ("width", "height", "media"))
        if self._memory.held or media < 0:
            raise ValueError("memory is reserved once, and not less than none")
        if width <= 0 or height <= 0 or width * height > MOST_PIXELS_UPSCALED:
            raise ValueError(f"there is no memory to reserve for frames of {width}x{height}")
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
            self._encoders.fix(*pictures)
        self._line.hold(self)
        self._channel.share(sizes)
        return True

    def _reserve_memory(self, needed: int) -> None:
        """Wait for memory. A range behind another takes what nobody else waits for, or waits where it is in nobody's way."""
        if self._line.is_first(self) or not self._memory.grant(needed, 1):
            self._memory.wait(partial(self._line.become_first, self, self._is_gone))
            self._memory.reserve(needed, self._is_gone)

    def _reserve_both(self, needed: int, *, waits: bool) -> bool:
        """Take memory and an encoder of the GPU, and wait for each while nothing of the other is held; tell whether they are had.

        waits: for an encoder, too; else nothing is taken where none is free once memory is.
        """
        while True:
            self._reserve_memory(needed)
            if self._encoders.claim(1):
                return True
            self._memory.release()
            if not waits:
                return False
            self._memory.wait(partial(self._encoders.wait, self._is_gone))
            if self._line.is_first(self) and self._memory.take_now(needed):
                return True
            self._encoders.leave(1)

    def _merge(self, media: int) -> None:
        """Wait until what an attempt takes fits that merges what others make, which encode for it, too."""
        self._check_unused()
        if self._merging.held or media < 0:
            raise ValueError("memory to merge is reserved once, and not less than none")
        self._merging.reserve(media, self._is_gone)

    def _count_encoders(self, message: Message) -> int:
        """Count how many encoders an attempt may have: more than one where that keeps up with the model, and memory is there."""
        asked = message["encoder"]
        another = AnotherEncoder(int(asked["bytes"]), float(asked["frame_seconds"]), int(asked["most"]))
        if self._live or another.most < 2 or another.bytes <= 0:
            return 1
        with self._device():
            frame = int(message["width"]), int(message["height"])
            seconds = seconds_a_frame(self._chosen.model, *frame, deep=self._chosen.form.bits > 8)
        size = another.bytes + self._encoders.bytes_each
        wanted = another.needed(seconds) - 1
        if not self._encoders.bytes_each:
            return 1 + self._memory.grant(size, wanted)
        claimed = self._encoders.claim(wanted)
        granted = self._memory.grant(size, claimed)
        self._encoders.leave(claimed - granted)
        return 1 + granted

    def _open(self, width: int, height: int) -> int:
        """Open a session; its number."""
        if len(self._sessions) >= MOST_SESSIONS:
            raise ValueError(f"{MOST_SESSIONS} sessions are open, which is the most")
        if width <= 0 or height <= 0 or width * height > MOST_PIXELS_UPSCALED:
            raise ValueError(f"there is no session of {width}x{height}")
        self._memory.wait(partial(self._line.enter, self, self._is_gone))
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

    def _is_gone(self) -> bool:
        return self._gone

    def _send(self, frames: Iterable[Frame]) -> None:
        """Send frames as they are made. Those of a live source that one push gives, most often one, take one turn for all."""
        results = iter(frames)
        while True:
            with self._turn:
                self._turn.enter_context(self._device())
                batch = list(results) if self._live else list(islice(results, 1))
                self._made(self._chosen.label, len(batch))
            for frame in batch:
                self._channel.send({}, frame)
            if self._live or not batch:
                return

    def _lend(self) -> None:
        """Lend the device to the next attempt between two steps: a model may work on a whole shot."""
        self._turn.close()
        self._turn.enter_context(self._device())
