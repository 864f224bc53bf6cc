"""Whose a state folder and its database are: one server's alone, or, with PostgreSQL, of several that share both.

Of these all work, each on jobs of its own, and one leads. Where they cannot share the work, that one works alone, and the others
stand by to take over when it is gone.
"""

import asyncio
import logging
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from filelock import FileLock, Timeout

from upres.engine.segments.whole_file import sync_folder
from upres.service.domain.errors import OtherStoreError, StoreError, TakenOverError
from upres.service.domain.watched_tasks import WatchedTasks
from upres.service.storage.job_store import Store
from upres.service.storage.lease import RENEW_SECONDS, SECONDS, Holder, Lease

from .settings import Settings

MARK = "database.id"  # in a state folder: which database its jobs are rows of

SHARING = ("local",)  # executors whose devices are each server's own
ANSWER_SECONDS = 4.0  # for one try to renew the lease, so that there are several
PAUSE_SECONDS = 10.0
START_SECONDS = (
    60.0  # the longest that a server which starts keeps the lease and does nothing: one that hangs must lose it
)

T = TypeVar("T")
Step = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


class Standby:
    """One server's place. address: how clients reach it, for the others to name it. joins: it can work beside others.

    kept: the URL of the store of jobs; None where the servers share the state folder.
    Raises StoreError where the database cannot be used, or the state folder is of another one.
    """

    def __init__(
        self, store: Store, state: Path, address: str, *, joins: bool = False, kept: str | None = None
    ) -> None:
        self.store = store
        self._lease = Lease(f"{address} of {socket.gethostname()}", joins=joins, kept=kept)
        self._tasks = WatchedTasks()
        self._thread = ThreadPoolExecutor(1, "lease")  # its own: in the common ones it would wait for all that is slow
        self._started = threading.Event()
        self._doubt, self._held = asyncio.Event(), asyncio.Event()  # whether another server may have the lease
        _check_shared(store, state, own=kept is not None)

    @classmethod
    def open(cls, settings: Settings, checkpoint: Callable[[str], None]) -> Self:
        """Open the database and the state folder that the settings name. Raises OtherStoreError too."""
        make_state(settings.state)
        store = Store(settings.database_url, checkpoint=checkpoint)
        try:
            store.keep_jobs_in(settings.store)
            address = settings.public_url or settings.address(settings.http_port)
            return cls(store, settings.state, address, joins=settings.executor in SHARING, kept=settings.store)
        except Exception:
            store.close()
            raise

    def reached_at(self, http: str, grpc: str) -> None:
        """Say where the others reach this server once it works: a URL, and HOST:PORT."""
        self._lease.http, self._lease.grpc = http, grpc

    async def wait(self, follow: Callable[[Holder], Awaitable[None]]) -> None:
        """Wait until no other server works, or those that do can be joined. follow: called with the one that works, at every look.

        The lease is renewed from then on, until `start` or `stop`, as long as this thread does anything: see START_SECONDS.
        Raises OtherStoreError.
        """
        while True:
            try:
                holder = await self._apart(self.store.acquire)
            except OtherStoreError:
                raise
            except StoreError as error:
                logger.warning("standing by: %s", error)
            else:
                if holder is None:
                    threading.Thread(target=self._hold, args=(_cpu_clock(),), name="start", daemon=True).start()
                    return
                await follow(holder)
            await asyncio.sleep(RENEW_SECONDS)

    @property
    def id(self) -> str:
        """Give what jobs name this server by, from its turn on."""
        return self._lease.holder

    @property
    def url(self) -> str:
        """Give where others reach this server over HTTP."""
        return self._lease.http or ""

    @property
    def term(self) -> int:
        """Count the servers that have led, up to this one; 0 where it does not."""
        return self._lease.term

    @property
    def leads(self) -> bool:
        """Report whether this server does what only one may."""
        return self._lease.leads

    async def lead(self) -> None:
        """Lead, where no other server does, or the one that does is late. Raises StoreError."""
        # Not where it is renewed, since it waits for a turn.
        await asyncio.to_thread(self.store.acquire, self._lease, late=True)

    def start(self, pause: Step, resume: Step, lost: Callable[[str], None]) -> None:
        """Renew the lease from now on.

        pause: called when that fails for so long that another server may have taken it, until it has ended once; resume: when
        none has, after all. lost: called when one has.
        """
        self._started.set()
        self._tasks.start("lease", partial(self._keep, lost), endless=False)
        self._tasks.start("pauses", partial(self._pause, pause, resume))

    async def stop(self) -> None:
        """Let another server take over at once."""
        self._started.set()
        await self._tasks.stop()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._apart(self.store.release)
        except (StoreError, TimeoutError) as error:
            logger.warning("another server takes over in %g s only: %s", SECONDS, error)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _apart(self, step: Callable[[Lease], T]) -> T:
        """Do a step with the lease in the thread that is for that alone."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, step, self._lease)

    def _hold(self, worked: Callable[[], float]) -> None:
        """Renew the lease while the server starts: in a thread, since that keeps the event loop busy. worked: its CPU seconds."""
        before, limit = worked(), time.monotonic() + START_SECONDS
        while not self._started.wait(RENEW_SECONDS):
            if (now := worked()) > before:  # however slowly, it gets on
                before, limit = now, time.monotonic() + START_SECONDS
            elif time.monotonic() > limit:
                return
            try:
                self.store.renew(self._lease)
            except TakenOverError:
                return  # `start` and whatever is written say so
            except StoreError as error:
                logger.warning("the lease is not renewed yet: %s", error)

    async def _keep(self, lost: Callable[[str], None]) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            asked = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._apart(self.store.renew)
            except TakenOverError as error:
                lost(str(error))
                return
            except (StoreError, TimeoutError) as error:
                logger.warning("the lease is not renewed yet: %s", str(error) or f"no answer for {ANSWER_SECONDS:g} s")
                if time.monotonic() > renewed + SECONDS:
                    self._held.clear()
                    self._doubt.set()
            else:
                renewed = asked
                self._doubt.clear()
                self._held.set()

    async def _pause(self, pause: Step, resume: Step) -> None:
        """Pause while the lease is in doubt, beside what renews it: what takes long here would cost it."""
        while True:
            await self._doubt.wait()
            while not await _in_time(pause) and not self._held.is_set():
                await asyncio.sleep(RENEW_SECONDS)
            await self._held.wait()
            await _in_time(resume)


def _cpu_clock() -> Callable[[], float]:
    """Give the clock of the CPU seconds of this thread; of this process, where the system has none of threads."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.process_time
    return partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))


async def _in_time(step: Step) -> bool:
    """Take a step, or leave it where it is: the step back must follow. Return whether it has ended."""
    try:
        async with asyncio.timeout(PAUSE_SECONDS):
            await step()
        return True
    except TimeoutError:
        logger.warning("%s has not ended within %g s", step, PAUSE_SECONDS)
    except Exception:  # whatever it is
        logger.exception("%s has failed", step)
    return False


def _check_shared(store: Store, state: Path, *, own: bool) -> None:
    """Raise StoreError where a state folder is not the one that the database's jobs have their files in.

    own: it is one server's alone, and becomes one of this database's where it is none yet.
    """
    mark = state / MARK

    def made() -> str:
        if not mark.exists():
            mark.write_text(secrets.token_hex(8))
            sync_folder(state)
        return mark.read_text().strip()

    wanted = store.meta("state", made)
    if own and not mark.exists():
        mark.write_text(wanted)
    if not mark.exists() or mark.read_text().strip() != wanted:
        raise StoreError(
            f"{state} is not the state folder of this database's jobs: all its servers share one, by UPRES_STATE, or a store, by"
            f" UPRES_STORE; where its files are lost, and jobs may fail for it, write {wanted} into {mark}"
        )


def make_state(state: Path) -> None:
    """Make the state folder where it is missing; StoreError where it cannot be."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"the state folder {state} cannot be made ({error.strerror})") from error


def locked(state: Path) -> FileLock:
    """Make the state folder this server's alone, for as long as it lives."""
    lock = FileLock(state / "server.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"another server runs on {state}; stop it, or set UPRES_STATE to a folder of its own"
        ) from error
    return lock
