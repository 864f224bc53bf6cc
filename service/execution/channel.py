"""Between an attempt, which opens strangers' media, and its worker, which holds the models: frames over a socket pair.

Every message is a JSON header; a frame's is followed by its pixels. Nothing is unpickled, so that an attempt that was taken
over has no way into the worker. Replies are frames, then `{"end": value}` or `{"error": …}`.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from upres.engine.core import errors
from upres.engine.core.frame import Frame
from upres.engine.core.model import Model, Session, Spooling, Stoppable
from upres.engine.decode.container import MOST_PIXELS
from upres.engine.pipeline.estimate import refuse_what_cannot_run_live

HEADER_BYTES = 1 << 20

Message = dict[str, Any]


class Channel:
    """One end. Sending is safe from several threads; receiving is for one."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: Message, frame: Frame | None = None) -> None:
        """Send a message, with a frame if there is one."""
        if frame is not None:
            message = {**message, "pts": frame.pts, "duration": frame.duration, "shot": frame.shot}
            message |= {"width": frame.width, "height": frame.height}
        with self._sending:
            self._connection.send_bytes(json.dumps(message).encode())
            if frame is not None:
                self._connection.send_bytes(np.ascontiguousarray(frame.pixels).data.cast("B"))

    def receive(self) -> tuple[Message, Frame | None]:
        """The next message, with its frame; EOFError when the other end is gone, OSError when it sends nonsense."""
        message: Message = json.loads(self._connection.recv_bytes(HEADER_BYTES))
        if "pts" not in message:
            return message, None
        width, height = int(message.pop("width")), int(message.pop("height"))
        if not 0 < width * height <= 16 * MOST_PIXELS:
            raise OSError(f"a frame of {width}x{height}")
        pixels = np.empty((height, width, 3), np.uint8)
        self._connection.recv_bytes_into(pixels.data.cast("B"))
        return message, Frame(pixels, message.pop("pts"), message.pop("duration"), message.pop("shot"))

    def ready(self, seconds: float) -> bool:
        """Whether something can be received within this time."""
        return self._connection.poll(seconds)

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


class RemoteModel:
    """A model that another process holds."""

    def __init__(self, channel: Channel, slug: str, scale: int, content: str) -> None:
        self._channel = channel
        facts = _ask(channel, {"do": "model", "slug": slug, "scale": scale, "content": content})
        self.name: str = facts["name"]
        self.scale: int = facts["scale"]
        self.warmup: int | None = facts["warmup"]
        self.report: str = facts["report"]
        self.note: str | None = facts["note"]

    def open(self, width: int, height: int) -> Session:
        """A session in the other process."""
        return _RemoteSession(self._channel, _ask(self._channel, {"do": "open", "width": width, "height": height}))

    def memory(self, width: int, height: int) -> int:
        """Bytes a session needs there."""
        return int(_ask(self._channel, {"do": "memory", "width": width, "height": height}))

    def check_live(self, width: int, height: int, rate: float) -> None:
        """ModelError where it is not made for a live source of this size and frames a second there."""
        _ask(self._channel, {"do": "check live", "width": width, "height": height, "rate": rate})


class _RemoteSession:
    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number

    def push(self, frame: Frame) -> Iterator[Frame]:
        self._channel.send({"do": "push", "session": self._number}, frame)
        return _frames(self._channel)

    def flush(self) -> Iterator[Frame]:
        self._channel.send({"do": "flush", "session": self._number})
        return _frames(self._channel)

    def close(self) -> None:
        _ask(self._channel, {"do": "close", "session": self._number})


def _frames(channel: Channel) -> Iterator[Frame]:
    """The frames of a reply; all are taken even if the consumer stops early, so that the next reply is the next."""
    ended = False
    try:
        while True:
            message, frame = channel.receive()
            if frame is None:
                ended = True
                _value(message)
                return
            yield frame
    finally:
        while not ended:
            ended = channel.receive()[1] is None


def _ask(channel: Channel, message: Message) -> Any:  # noqa: ANN401 - JSON
    channel.send(message)
    return _value(channel.receive()[0])


def _value(message: Message) -> Any:  # noqa: ANN401 - JSON
    if "error" not in message:
        return message["end"]
    kind = getattr(errors, message["error"], None)
    if isinstance(kind, type) and issubclass(kind, errors.UpresError):
        raise kind(message["text"])
    raise RuntimeError(f"the worker failed: {message['text']}")


Turn = Callable[[], AbstractContextManager[None]]
Load = Callable[[str, int, str], tuple[Model, str | None]]


class Sessions:
    """The worker's side: one attempt's model and sessions. device: entered while a model works, which serialises attempts."""

    def __init__(self, channel: Channel, load: Load, device: Turn, *, live: bool = False) -> None:
        self._channel = channel
        self._load = load
        self._device = device
        self._live = live
        self._turn = ExitStack()  # what is held of the device
        self._model: Model | None = None
        self._open: dict[int, Session] = {}
        self._opened = 0

    def answer(self, message: Message, frame: Frame | None) -> None:
        """Do what an attempt asks and reply; errors go to the attempt."""
        try:
            end = self._do(message, frame)
        except Exception as error:  # whatever it is, it is the attempt that failed
            self._channel.send({"error": type(error).__name__, "text": str(error)})
        else:
            self._channel.send({"end": end})

    def hurry(self) -> None:
        """The attempt is gone: end what a model still does for it. From any thread."""
        for session in tuple(self._open.values()):
            if isinstance(session, Stoppable):
                session.stop()

    def close(self) -> None:
        """Close what the attempt left open."""
        while self._open:
            self._open.popitem()[1].close()

    def _do(self, message: Message, frame: Frame | None) -> Any:  # noqa: ANN401 - JSON
        match message["do"]:
            case "model":
                with self._device():
                    self._model, note = self._load(message["slug"], message["scale"], message["content"])
                facts = ("name", "scale", "warmup", "report")
                return {**{fact: getattr(self._model, fact) for fact in facts}, "note": note}
            case "memory":
                return self._chosen().memory(message["width"], message["height"])
            case "check live":
                with self._device():
                    refuse_what_cannot_run_live(self._chosen(), message["width"], message["height"], message["rate"])
            case "open":
                self._opened += 1
                with self._device():
                    self._open[self._opened] = self._session(message["width"], message["height"])
                return self._opened
            case "push" if frame is not None:
                self._give(self._open[message["session"]].push(frame))
            case "flush":
                self._give(self._open[message["session"]].flush())
            case "close":
                self._open.pop(message["session"]).close()
            case other:
                raise ValueError(f"there is nothing to do named {other!r}")
        return None

    def _session(self, width: int, height: int) -> Session:
        model, live = self._chosen(), self._live
        session = model.open(width, height, live=live) if isinstance(model, Spooling) else model.open(width, height)
        if isinstance(session, Stoppable):
            session.between = self._lend
        return session

    def _chosen(self) -> Model:
        if self._model is None:
            raise ValueError("no model was chosen yet")
        return self._model

    def _give(self, frames: Iterable[Frame]) -> None:
        """Send frames as they are made. Those of a live source that one push gives, most often one, take one turn for all."""
        results = iter(frames)
        while True:
            with self._turn:
                self._turn.enter_context(self._device())
                found = list(results) if self._live else list(islice(results, 1))
            for frame in found:
                self._channel.send({}, frame)
            if self._live or not found:
                return

    def _lend(self) -> None:
        """A model may work on a whole shot: between its steps, whoever is next has the device."""
        self._turn.close()
        self._turn.enter_context(self._device())
