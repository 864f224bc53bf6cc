"""FlashVSR in a worker whose transformer can be blocked at a step: `held_flashvsr:load` is a loader for the service.

`held_flashvsr:slow` loads one that takes a second per frame, `held_flashvsr:vast` one that needs more memory than the machine has.

Environment: HELD is a folder; every step adds a line to its file `steps`. At step number HELD_AT, once, the worker connects to the
local port HELD_PORT and continues when that connection is closed.
"""

import os
import socket
from pathlib import Path

from upres.engine.core.errors import ModelError
from upres.engine.models.flashvsr.model import FlashVSR
from upres.engine.models.flashvsr.networks import Transformer
from upres.service.execution import worker

push = Transformer.push


def push_or_wait(self, *inputs):
    steps, once = Path(os.environ["HELD"]) / "steps", Path(os.environ["HELD"]) / "held"
    with steps.open("a") as file:
        file.write("step\n")
    if len(steps.read_text().splitlines()) == int(os.environ["HELD_AT"]) and not once.exists():
        once.touch()
        with socket.create_connection(("127.0.0.1", int(os.environ["HELD_PORT"])), timeout=200) as connection:
            connection.recv(1)
    return push(self, *inputs)


def slow(slug, scale, content):
    FlashVSR.seconds = lambda self, width, height: 1.0
    return worker.load(slug, scale, content)


def vast(slug, scale, content):
    FlashVSR.memory = lambda self, width, height, *, live=False: 1 << 60 if live else 0
    return worker.load(slug, scale, content)


def load(slug, scale, content):
    if slug != "FlashVSR_Tiny":
        raise ModelError("not for this test")
    Transformer.push = push_or_wait
    return worker.load(slug, scale, content)
