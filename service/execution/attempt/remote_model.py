"""A model that the worker holds, as an attempt sees it: the engine's protocol over a channel."""

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
    """Keeps the engine's protocol `Model`. note: a line for the user where a better model exists; None otherwise.

    eight_bits: why it takes 8 bits a channel and no more; None where it can be deepened. planar: whether it takes planes.
    nvenc: whether the worker's GPU has an encoder free; may_have_nvenc: it has, or will once others leave one.
    levels: networks of which one works, if there are several; level: which of them, from its next frame on.
    """

    def __init__(
        self, channel: Channel, models: Sequence[tuple[str, int]], content: str, *, steps: bool = False
    ) -> None:
        """Let the worker load models, each a slug and its scale, that work one after the other as one.

        steps: and lighter ones that can take the place of a single one, where there are any.
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
        """Let the worker take the same models for frames of 16 bits, instead."""
        self._describe(_ask(self._channel, {"do": "deepen"}))
        return self

    def on_planes(self, layout: Layout, width: int, height: int) -> "RemoteModel | None":
        """Let the worker take the same model for frames in planes, instead; None where it takes RGB."""
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
        """Predict the bytes that a session needs in the worker."""
        return int(_ask(self._channel, {"do": "memory", "width": width, "height": height}))

    def reserve(
        self, width: int, height: int, media: int, encoder: AnotherEncoder, *, nvenc: bool = False, waits: bool = False
    ) -> int:
        """Wait until the worker has memory for frames of this size, and `media` bytes for all but the model; share some of it.

        encoder: what more than one of them take. nvenc: whether they are its GPU's; waits: until that has one, too. Returns how
        many there may be: none where the GPU has none by then, and nothing is reserved. Raises SourceError where it never has the
        memory, NoRoomError where it has not in its time; for a live source, where it has none now.
        """
        sizes = {"width": width, "height": height, "media": media}
        asked = {"encoder": asdict(encoder), "nvenc": nvenc, "waits": waits}
        self._channel.send({"do": "reserve", **sizes, **asked})
        message, _ = self._channel.receive()
        if "shared" in message:
            frame, upscaled = message["shared"]
            self._channel.attach((frame, upscaled))
            message, _ = self._channel.receive()
        return int(value_of(message))

    def merge(self, media: int) -> None:
        """Wait until the worker has so many bytes for an attempt that merges what others make.

        Raises SourceError where it never has, NoRoomError where it has none in its time.
        """
        _ask(self._channel, {"do": "merge", "media": media})

    def open_encoder(self) -> Channel:
        """Open the channel of one of the worker's encoders, of those that were reserved."""
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
        """Check that it keeps up with a live source of this size and frames a second; ModelError where it does not."""
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
    """Yield the frames of a reply; all are taken even if the consumer stops early, so that the next reply is the next."""
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
    """Return what a reply says; raise the error that it says."""
    if "error" not in message:
        return message["end"]
    kind = NoRoomError if message["error"] == NoRoomError.__name__ else getattr(errors, message["error"], None)
    if isinstance(kind, type) and issubclass(kind, errors.UpresError):
        raise kind(message["text"])
    raise RuntimeError(f"the worker failed: {message['text']}")
