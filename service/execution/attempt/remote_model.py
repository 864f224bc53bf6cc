"""A model held by the worker, as seen by an attempt: the engine's model protocol over a channel."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from upres.engine.core import errors
from upres.engine.core.frame import Frame, Layout
from upres.engine.core.model import Session
from upres.engine.pipeline.encoders import AnotherEncoder
from upres.service.domain.errors import NoRoomError
from upres.service.execution.channel import Channel, Message


class RemoteModel:
    """Client of the worker's models that implements `Model`. note: a line for the user if a better model exists, else None.

    eight_bits: why only 8 bits per channel are supported; None if `deep` works. planar: whether it accepts planes.
    nvenc: whether an encoder of the worker's GPU is free. may_have_nvenc: whether one is free or will be once others release it.
    levels: alternative networks, of which one works at a time. level: index of the network for the next frames.
    """

    def __init__(
        self, channel: Channel, models: Sequence[tuple[str, int]], content: str, *, steps: bool = False
    ) -> None:
        """Request the worker to load models, given as pairs of slug and scale, that are applied one after the other.

        steps: also load lighter networks that can replace a single model, if there are any.
        """
        self._channel = channel
        self.planar = False
        self.level = 0
        facts = _ask(channel, {"do": "model", "models": list(models), "content": content, "steps": steps})
        self.note: str | None = facts["note"]
        self.nvenc: bool = facts["nvenc"]
        self.may_have_nvenc: bool = facts["may_have_nvenc"]
        self._describe(facts)

    def deep(self) -> "RemoteModel":
        """Request the worker to switch to the same models for frames of 16 bits."""
        self._describe(_ask(self._channel, {"do": "deepen"}))
        return self

    def on_planes(self, layout: Layout, width: int, height: int) -> "RemoteModel | None":
        """Request the worker to switch to the same model for planar frames; None if RGB suits it better."""
        color = {"matrix": layout.color.matrix, "range": layout.color.range, "siting": layout.siting}
        facts = _ask(self._channel, {"do": "on planes", **color, "width": width, "height": height})
        if facts is None:
            return None
        self._describe(facts)
        self.planar = True
        return self

    def _describe(self, facts: Message) -> None:
        self.name: str = facts["name"]
        self.scale: int = facts["scale"]
        self.warmup: int | None = facts["warmup"]
        self.report: str = facts["report"]
        self.digest: str = facts["digest"]
        self.eight_bits: str | None = facts["eight_bits"]
        self.levels: list[str] = facts["levels"]

    def open(self, width: int, height: int) -> Session:
        """Open a session in the worker."""
        number = _ask(self._channel, {"do": "open", "width": width, "height": height})
        return _RemoteSession(self, self._channel, number)

    def memory(self, width: int, height: int) -> int:
        """Predict the memory of a session in the worker, in bytes."""
        return int(_ask(self._channel, {"do": "memory", "width": width, "height": height}))

    def reserve(
        self, width: int, height: int, media: int, encoder: AnotherEncoder, *, nvenc: bool = False, waits: bool = False
    ) -> int:
        """Wait until the worker has memory for frames of this size and `media` bytes besides the model; attach the shared memory.

        encoder: requirements of each additional encoder. nvenc: use the worker's GPU encoders. waits: wait until one is free.
        Returns the number of encoders that may be used; 0, with nothing reserved, if the GPU has none free. Raises SourceError if
        there will never be enough memory, NoRoomError if there is not within the time limit; a live source does not wait.
        """
        sizes = {"width": width, "height": height, "media": media}
        settings = {"encoder": asdict(encoder), "nvenc": nvenc, "waits": waits}
        self._channel.send({"do": "reserve", **sizes, **settings})
        message, _ = self._channel.receive()
        if "shared" in message:
            frame, upscaled = message["shared"]
            self._channel.attach((frame, upscaled))
            message, _ = self._channel.receive()
        return int(value_of(message))

    def merge(self, media: int) -> None:
        """Wait until the worker has `media` bytes for an attempt that merges ranges that others have processed.

        Raises SourceError if it never will, NoRoomError if it does not within the time limit.
        """
        _ask(self._channel, {"do": "merge", "media": media})

    def open_encoder(self) -> Channel:
        """Open the channel of one of the worker's encoders that were reserved."""
        self._channel.send({"do": "encoder"})
        message, _ = self._channel.receive()
        if "channel" not in message:
            value_of(message)
        channel = self._channel.receive_end()
        value_of(self._channel.receive()[0])
        frame, upscaled = channel.receive()[0]["shared"]
        channel.attach((frame, upscaled))
        return channel

    def check_live(self, width: int, height: int, rate: float) -> None:
        """Check that the model is fast enough for a live source of this size and frame rate; ModelError if it is not."""
        _ask(self._channel, {"do": "check live", "width": width, "height": height, "rate": rate})


class _RemoteSession:
    def __init__(self, model: RemoteModel, channel: Channel, number: int) -> None:
        self._model = model
        self._channel = channel
        self._number = number

    def push(self, frame: Frame) -> Iterator[Frame]:
        self._channel.send({"do": "push", "session": self._number, "level": self._model.level}, frame)
        return _frames(self._channel)

    def flush(self) -> Iterator[Frame]:
        self._channel.send({"do": "flush", "session": self._number})
        return _frames(self._channel)

    def close(self) -> None:
        _ask(self._channel, {"do": "close", "session": self._number})


def _frames(channel: Channel) -> Iterator[Frame]:
    """Yield the frames of a reply. If the consumer stops early, the rest is read and dropped, so that the next reply is in step."""
    ended = False
    try:
        while True:
            message, frame = channel.receive()
            if frame is None:
                ended = True
                value_of(message)
                return
            yield frame
    finally:
        while not ended:
            ended = channel.receive()[1] is None


def _ask(channel: Channel, message: Message) -> Any:  # noqa: ANN401 - JSON
    channel.send(message)
    return value_of(channel.receive()[0])


def value_of(message: Message) -> Any:  # noqa: ANN401 - JSON
    """Return the value of a reply, or raise the error that it contains."""
    if "error" not in message:
        return message["end"]
    kind = NoRoomError if message["error"] == NoRoomError.__name__ else getattr(errors, message["error"], None)
    if isinstance(kind, type) and issubclass(kind, errors.UpresError):
        raise kind(message["text"])
    raise RuntimeError(f"the worker failed: {message['text']}")
