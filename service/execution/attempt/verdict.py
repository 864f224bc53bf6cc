"""Execution of an order in this process: confined, under the lock of its folder or range, and reported to the end."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from upres.engine.core.errors import UpresError
from upres.engine.pipeline.progress import Progress
from upres.engine.ranges.folder import Ranges
from upres.service.domain import job_logging
from upres.service.execution.channel import Channel
from upres.service.execution.order import Order
from upres.service.execution.sandbox.confinement import confine
from upres.service.execution.sandbox.limits import Bounds, name_process
from upres.service.live.attempt_socket import LiveSocket
from upres.service.storage.job_folder import JobFolder

from .folder_lock import LockedError, locked
from .reporting import Reporter
from .run import Attempt
from .stages import TimedProgress, reported

logger = logging.getLogger(__name__)


def run_order(order: Order, channel: Channel) -> None:
    """Execute an order in this process, which gives up access to everything but the job's folder, and report the verdict."""
    job_logging.bind_job_id(order.logged, order.traceparent)
    name_process("upres-attempt")
    reporter = Reporter(channel, Progress() if order.traceparent is None else TimedProgress())
    try:
        # The live socket is opened before sockets are given up.
        with _live_socket(order, reporter) as live, reported(reporter.progress, channel):
            _confine(order)
            verdict = _execute(order, channel, live, reporter)
    except LockedError as error:
        channel.send({"report": "locked", "holder": error.holder})
    except UpresError as error:
        message = str(error).replace(f"{order.folder}/", "")  # clients must not see the server's paths
        channel.send({"report": "failed", "error": type(error).__name__, "message": message})
    else:
        channel.send(verdict)


def _execute(order: Order, channel: Channel, live: LiveSocket | None, reporter: Reporter) -> dict[str, Any]:
    """Execute the order and return the verdict."""
    folder, number = JobFolder(Path(order.folder)), order.range_number
    if number is not None:
        with locked(folder.range_lock(number), Ranges(folder.log, {}).place(number), order.lock_seconds):
            Attempt(order, channel, live, reporter).run_range(number)
        return {"report": "made"}
    with locked(folder.lock, folder.log, order.lock_seconds):
        totals = Attempt(order, channel, live, reporter).run()
    logger.info("%d frames are in the log, %d were there before", totals["frames"], totals["frames_resumed"])
    return {"report": "joined", "totals": totals}


@contextmanager
def _live_socket(order: Order, reporter: Reporter) -> Iterator[LiveSocket | None]:
    if not order.live:
        yield None
        return
    with closing(LiveSocket(Path(order.folder), partial(reporter.send, "waiting"))) as live:
        yield live


def _confine(order: Order) -> None:
    tempfile.tempdir = order.folder  # the only writable folder
    bounds = Bounds(memory_bytes=order.memory_bytes, cpu_seconds=order.cpu_seconds, file_bytes=order.file_bytes)
    confine(bounds, writable=[Path(order.folder)])
