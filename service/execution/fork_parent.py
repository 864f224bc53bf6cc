"""The process that attempts, probes and pulled streams are forked from: it has imported what they need, and has one thread.

A child takes one message from its socket, which says what to do, and gives up all it does not need for that before it reads a
byte of a stranger's media.
"""

import gc
import logging
import os
import socket
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from upres.engine.decode.source import openers
from upres.service.domain import job_logging

from .attempt.verdict import run_order
from .channel import Channel
from .order import Order
from .probe import process as probe_process
from .pull import process as pull_process
from .sandbox.confinement import code_folders, confine
from .sandbox.fork_server import CHILD
from .sandbox.forking import Forking
from .sandbox.limits import Bounds

TASKS = Path("/proc/self/task")  # this process's threads, on Linux
TRIAL = Bounds(memory_bytes=1 << 30, cpu_seconds=1, file_bytes=0)

logger = logging.getLogger(CHILD)  # __name__ is __main__


def run(end: socket.socket) -> None:
    """Do what the one message asks for that comes first, and reply on the same socket."""
    channel = Channel(end)
    try:
        match channel.receive()[0]:
            case {"attempt": order}:
                run_order(Order(**order), channel)
            case {"inspect": request}:
                channel.send(probe_process.run(**request))
            case {"pull": request}:
                pull_process.run(end, **request)
            case {"confine": _}:
                channel.send(asdict(confine(TRIAL)))
            case message:
                raise ValueError(f"there is nothing to do like {message!r}")
    except (EOFError, ConnectionError):
        pass  # nobody is there to report to
    except Exception:  # the process ends with it, and only this
        logger.exception("it ended of a fault")
        os._exit(1)


def main() -> None:
    """Fork a child for each request that comes by the socket whose descriptor is the only argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    job_logging.configure("json")
    threads = len(list(TASKS.iterdir())) if TASKS.exists() else threading.active_count()
    if threads != 1:
        raise RuntimeError(
            f"{threads} threads run where children are forked; a library that was imported has started them"
        )
    code_folders()  # these are looked up here, once, and by no child
    openers()
    gc.collect()
    gc.freeze()  # or collecting would copy every page that a child shares
    Forking(control, run).serve()


if __name__ == "__main__":
    main()
