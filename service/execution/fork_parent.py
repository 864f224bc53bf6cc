"""The parent process of attempts, probes and pulled streams. It has imported what they need and has a single thread.

A forked child reads one message from its socket, which states its task, and drops all privileges that the task does not need
before it reads a byte of untrusted media.
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
    """Execute the task of the first message, and reply on the same socket."""
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
                raise ValueError(f"unknown task {message!r}")
    except (EOFError, ConnectionError):
        pass  # the receiver is gone
    except Exception:  # an unexpected error ends this process only
        logger.exception("the process failed with an unexpected error")
        os._exit(1)


def main() -> None:
    """Fork a child for each request received on the socket whose file descriptor is the only argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    job_logging.configure("json")
    threads = len(list(TASKS.iterdir())) if TASKS.exists() else threading.active_count()
    if threads != 1:
        raise RuntimeError(
            f"the process that forks children has {threads} threads; an imported library must have started them"
        )
    code_folders()  # cached here, once, instead of in each child
    openers()
    gc.collect()
    gc.freeze()  # otherwise garbage collection would copy every page that a child shares
    Forking(control, run).serve()


if __name__ == "__main__":
    main()
