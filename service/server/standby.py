"""Ownership of a state folder and its database: by one server, or, with PostgreSQL, by several servers that share both.

If the servers can share the work, each processes its own jobs, and one of them is the leader. Otherwise one server is active, and
the others stand by to take over when it is gone.
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

MARK = "database.id"  # file in a state folder that identifies the database of its jobs

SHARING = ("local",)  # executors whose devices belong to one server each
ANSWER_SECONDS = 4.0  # for one attempt to renew the lease; allows several attempts before it expires
PAUSE_SECONDS = 10.0
START_SECONDS = (
    60.0  # maximum time for which a starting server may hold the lease without progress: one that hangs must lose it
)

T = TypeVar("T")
Step = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


class Standby:
    """One server's place. address: how clients reach it, shown by the other servers. joins: it can share the work.

    kept: the URL of the object store of jobs; None if the servers share the state folder. Raises StoreError if the database is
    unavailable or the state folder belongs to another one.
    """

    def __init__(
        self, store: Store, state: Path, address: str, *, joins: bool = False, kept: str | None = None
    ) -> None:
        self.store = store
        self._lease = Lease(f"{address} of {socket.gethostname()}", joins=joins, kept=kept)
        self._tasks = WatchedTasks()
        # A separate thread: in the default pool it would wait for slow tasks.
        self._thread = ThreadPoolExecutor(1, "lease")
        self._started = threading.Event()
        self._doubt = asyncio.Event()  # set while another server may have the lease
        self._confirmed = asyncio.Event()  # set while none can have it
        _check_shared(store, state, own=kept is not None)

    @classmethod
    def open(cls, settings: Settings, checkpoint: Callable[[str], None]) -> Self:
        """Open the database and the state folder of the settings. Raises OtherStoreError too."""
        make_state(settings.state)
        store = Store(settings.database_url, checkpoint=checkpoint)
        try:
            store.keep_jobs_in(settings.store)
            address = settings.public_url or settings.address(settings.http_port)
            return cls(store, settings.state, address, joins=settings.executor in SHARING, kept=settings.store)
        except Exception:
            store.close()
            raise

    def set_addresses(self, http: str, grpc: str) -> None:
        """Set where the other servers reach this one once it is active: a URL, and HOST:PORT."""
        self._lease.http, self._lease.grpc = http, grpc

    async def wait(self, follow: Callable[[Holder], Awaitable[None]]) -> None:
        """Wait until no other server is active, or the active ones can be joined. follow: called with the active server each time.

        From then on the lease is renewed, until `start` or `stop`, while the calling thread makes progress: see START_SECONDS.
        Raises OtherStoreError.
        """
        while True:
            try:
                holder = await self._in_lease_thread(self.store.acquire)
            except OtherStoreError:
                raise
            except StoreError as error:
                logger.warning("standing by: %s", error)
            else:
                if holder is None:
                    threading.Thread(
                        target=self._renew_while_starting, args=(_cpu_clock(),), name="start", daemon=True
                    ).start()
                    return
                await follow(holder)
            await asyncio.sleep(RENEW_SECONDS)

    @property
    def id(self) -> str:
        """The id by which jobs refer to this server, available from its turn on."""
        return self._lease.holder

    @property
    def url(self) -> str:
        """The URL at which others reach this server over HTTP."""
        return self._lease.http or ""

    @property
    def term(self) -> int:
        """The number of servers that have led, including this one; 0 if it does not lead."""
        return self._lease.term

    @property
    def leads(self) -> bool:
        """Whether this server is the leader, which does what only one server may do."""
        return self._lease.leads

    async def lead(self) -> None:
        """Become the leader, if there is none or it is late. Raises StoreError."""
        # Not in the renewal thread, because this waits for a lock.
        await asyncio.to_thread(self.store.acquire, self._lease, late=True)

    def start(self, pause: Step, resume: Step, lost: Callable[[str], None]) -> None:
        """Renew the lease from now on.

        pause: called while renewal fails for so long that another server may have acquired the lease, until it succeeds once.
        resume: called if no other server has. lost: called if another server has.
        """
        self._started.set()
        self._tasks.start("lease", partial(self._renew, lost), endless=False)
        self._tasks.start("pauses", partial(self._pause, pause, resume))

    async def stop(self) -> None:
        """Release the lease, so that another server can take over at once."""
        self._started.set()
        await self._tasks.stop()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._in_lease_thread(self.store.release)
        except (StoreError, TimeoutError) as error:
            logger.warning("the lease could not be released; another server takes over in %g s: %s", SECONDS, error)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _in_lease_thread(self, step: Callable[[Lease], T]) -> T:
        """Run a step with the lease in the lease's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, step, self._lease)

    def _renew_while_starting(self, cpu_seconds: Callable[[], float]) -> None:
        """Renew the lease while the server starts: in a thread, because startup blocks the event loop.

        cpu_seconds: returns the CPU time of the startup so far, in seconds.
        """
        before, limit = cpu_seconds(), time.monotonic() + START_SECONDS
        while not self._started.wait(RENEW_SECONDS):
            if (now := cpu_seconds()) > before:  # it makes progress, however slowly
                before, limit = now, time.monotonic() + START_SECONDS
            elif time.monotonic() > limit:
                return
            try:
                self.store.renew(self._lease)
            except TakenOverError:
                return  # `start` and every write report it
            except StoreError as error:
                logger.warning("the lease is not renewed yet: %s", error)

    async def _renew(self, lost: Callable[[str], None]) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            attempted = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._in_lease_thread(self.store.renew)
            except TakenOverError as error:
                lost(str(error))
                return
            except (StoreError, TimeoutError) as error:
                logger.warning("the lease is not renewed yet: %s", str(error) or f"no answer for {ANSWER_SECONDS:g} s")
                if time.monotonic() > renewed + SECONDS:
                    self._confirmed.clear()
                    self._doubt.set()
            else:
                renewed = attempted
                self._doubt.clear()
                self._confirmed.set()

    async def _pause(self, pause: Step, resume: Step) -> None:
        """Pause while the lease is in doubt; a separate task from the renewal, which a long pause must not delay."""
        while True:
            await self._doubt.wait()
            while not await _ends_in_time(pause) and not self._confirmed.is_set():
                await asyncio.sleep(RENEW_SECONDS)
            await self._confirmed.wait()
            await _ends_in_time(resume)


def _cpu_clock() -> Callable[[], float]:
    """Return the clock of this thread's CPU time; of the process's if the system has no clocks per thread."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.process_time
    return partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))


async def _ends_in_time(step: Step) -> bool:
    """Run a step and return whether it has completed; do not wait for a slow one, because the reverse step must follow."""
    try:
        async with asyncio.timeout(PAUSE_SECONDS):
            await step()
        return True
    except TimeoutError:
        logger.warning("%s has not ended within %g s", step, PAUSE_SECONDS)
    except Exception:  # any error
        logger.exception("%s has failed", step)
    return False


def _check_shared(store: Store, state: Path, *, own: bool) -> None:
    """Raise StoreError if the state folder is not the one that holds the files of the database's jobs.

    own: the folder belongs to one server; it is then associated with this database if it has no mark yet.
    """
    mark = state / MARK

    def create() -> str:
        if not mark.exists():
            mark.write_text(secrets.token_hex(8))
            sync_folder(state)
        return mark.read_text().strip()

    state_id = store.meta("state", create)
    if own and not mark.exists():
        mark.write_text(state_id)
    if not mark.exists() or mark.read_text().strip() != state_id:
        raise StoreError(
            f"{state} is not the state folder of this database's jobs: all its servers must share one (UPRES_STATE), or a store"
            f" (UPRES_STORE); if its files are lost and jobs may fail because of that, write {state_id} into {mark}"
        )


def make_state(state: Path) -> None:
    """Create the state folder if it is missing; StoreError if that fails."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"the state folder {state} cannot be created ({error.strerror})") from error


def locked(state: Path) -> FileLock:
    """Lock the state folder for this server, for as long as it lives."""
    lock = FileLock(state / "server.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreError(f"another server runs on {state}; stop it, or set UPRES_STATE to a separate folder") from error
    return lock
