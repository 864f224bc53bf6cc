"""The life of a job, pure: which state follows which change, and which attempts count. Knows no storage or protocols.

pending → processing → done | error. A cancelled job is an error with the reason CANCELLED. An attempt that dies leaves the
job processing until it has had MOST_ATTEMPTS. The words are the v2 contract's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from upres.engine.core.errors import UpresError
from upres.engine.core.text import counted

MOST_ATTEMPTS = 3  # the first, and twice again


class Status(StrEnum):
    """What a client sees; a closed set."""

    PENDING = "pending"
    PROCESSING = "processing"
    DONE = "done"
    ERROR = "error"


class Code(StrEnum):
    """The v2 contract's error codes; a closed set."""

    WORKER_TIMEOUT = "WORKER_TIMEOUT"
    WORKER_ERROR = "WORKER_ERROR"
    PROCESSING_ERROR = "PROCESSING_ERROR"


class Reason(StrEnum):
    """Why a job failed; an open list, each with its code and whether the same job may succeed later."""

    SOURCE_UNPROCESSABLE = "SOURCE_UNPROCESSABLE"
    SOURCE_INCOMPLETE = "SOURCE_INCOMPLETE"
    INPUT_TOO_LARGE = "INPUT_TOO_LARGE"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    UNSUPPORTED = "UNSUPPORTED"
    TIMEOUT = "TIMEOUT"
    CAPACITY_UNAVAILABLE = "CAPACITY_UNAVAILABLE"
    PROCESSING_FAILED = "PROCESSING_FAILED"
    CANCELLED = "CANCELLED"

    @property
    def code(self) -> Code:
        """Give the contract's code for this reason."""
        return CODES.get(self, Code.PROCESSING_ERROR)

    @property
    def retryable(self) -> bool:
        """Report whether the same job, submitted again, may end well."""
        return self in RETRYABLE


CODES = {
    Reason.TIMEOUT: Code.WORKER_TIMEOUT,
    Reason.CAPACITY_UNAVAILABLE: Code.WORKER_ERROR,
    Reason.PROCESSING_FAILED: Code.WORKER_ERROR,
}
RETRYABLE = frozenset({Reason.SOURCE_INCOMPLETE, Reason.TIMEOUT, Reason.CAPACITY_UNAVAILABLE, Reason.PROCESSING_FAILED})


class TransitionError(UpresError):
    """Raised when a change does not apply to the state a job is in."""


class MovedError(TransitionError):
    """Raised when a job belongs to another server, which alone may change it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job ended in error. message: short, stable, without paths."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class State:
    """Where a job stands. attempts: started so far. progress: 0 to 100, never falls."""

    status: Status = Status.PENDING
    attempts: int = 0
    progress: float = 0.0
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Report whether nothing changes any more."""
        return self.status in (Status.DONE, Status.ERROR)


def started(state: State) -> State:
    """Start an attempt: the first of a pending job, or the next of one whose last attempt died."""
    if state.ended or state.attempts >= MOST_ATTEMPTS:
        raise TransitionError(f"no attempt can start in {state.status} after {counted(state.attempts, 'attempt')}")
    return replace(state, status=Status.PROCESSING, attempts=state.attempts + 1)


def progressed(state: State, progress: float) -> State:
    """Record progress; less than what was known, as after a resume, changes nothing."""
    _must_process(state, "progress")
    return replace(state, progress=max(state.progress, min(progress, 100.0)))


def died(state: State, failure: Failure) -> State:
    """End an attempt that gave no verdict on the job: the next may follow, until there were MOST_ATTEMPTS."""
    _must_process(state, "die")
    return state if state.attempts < MOST_ATTEMPTS else failed(state, failure)


def requeued(state: State) -> State:
    """End an attempt that was interrupted through no fault of the job, as by a server that stops: it does not count."""
    _must_process(state, "be interrupted")
    return replace(state, attempts=max(0, state.attempts - 1))


def crashed(state: State, failure: Failure, *, progressed: bool) -> State:
    """End an attempt during which the server died: it counts, for the job may be why, unless it had come further."""
    return requeued(state) if progressed else died(state, failure)


def failed(state: State, failure: Failure) -> State:
    """End a job that cannot end well."""
    if state.ended:
        how = f"it is {state.status}" if state.failure is None else f"it failed with {state.failure.reason}"
        raise TransitionError(f"the job has ended already: {how}")
    return replace(state, status=Status.ERROR, failure=failure)


def finished(state: State) -> State:
    """End a job whose result can be read."""
    _must_process(state, "finish")
    return replace(state, status=Status.DONE, progress=100.0)


def cancelled(state: State) -> State:
    """End a job on request; TransitionError where it has ended already."""
    return failed(state, Failure(Reason.CANCELLED, "The job was cancelled."))


def once(change: Callable[[State], State]) -> Callable[[State], State]:
    """Make a change that may be tried again: where it was noted before, though the answer was lost, it changes nothing more."""
    made: list[State] = []

    def changed(state: State) -> State:
        if state not in made:
            made.append(state := change(state))
        return state

    return changed


def _must_process(state: State, verb: str) -> None:
    if state.status is not Status.PROCESSING:
        raise TransitionError(f"a job that is {state.status} cannot {verb}")
