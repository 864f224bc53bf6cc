"""State machine of a job, as pure functions: transitions, and which attempts count. Independent of storage and protocols.

pending → processing → done | error. A cancelled job is an error with the reason CANCELLED. If an attempt dies, the job stays
processing until it has had MOST_ATTEMPTS. The names are those of the v2 contract.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from upres.engine.core.errors import UpresError
from upres.engine.core.text import counted

MOST_ATTEMPTS = 3  # the first and two retries


class Status(StrEnum):
    """Status of a job as clients see it; a closed set."""

    PENDING = "pending"
    PROCESSING = "processing"
    DONE = "done"
    ERROR = "error"


class Code(StrEnum):
    """Error codes of the v2 contract; a closed set."""

    WORKER_TIMEOUT = "WORKER_TIMEOUT"
    WORKER_ERROR = "WORKER_ERROR"
    PROCESSING_ERROR = "PROCESSING_ERROR"


class Reason(StrEnum):
    """Reason why a job failed; an open list. Each has a contract code and says whether the same job may succeed later."""

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
        """Return the contract's code for this reason."""
        return CODES.get(self, Code.PROCESSING_ERROR)

    @property
    def retryable(self) -> bool:
        """Report whether the same job may succeed if it is submitted again."""
        return self in RETRYABLE


CODES = {
    Reason.TIMEOUT: Code.WORKER_TIMEOUT,
    Reason.CAPACITY_UNAVAILABLE: Code.WORKER_ERROR,
    Reason.PROCESSING_FAILED: Code.WORKER_ERROR,
}
RETRYABLE = frozenset({Reason.SOURCE_INCOMPLETE, Reason.TIMEOUT, Reason.CAPACITY_UNAVAILABLE, Reason.PROCESSING_FAILED})


class TransitionError(UpresError):
    """Raised when a transition does not apply to the current state of a job."""


class MovedError(TransitionError):
    """Raised when a job is owned by another server, which alone may change it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Failure of a job. message: short, stable, without paths."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class State:
    """State of a job. attempts: number of attempts started so far. progress: 0 to 100, never decreases."""

    status: Status = Status.PENDING
    attempts: int = 0
    progress: float = 0.0
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Report whether the state is final."""
        return self.status in (Status.DONE, Status.ERROR)


def started(state: State) -> State:
    """Start an attempt: the first of a pending job, or the next one after an attempt that died."""
    if state.ended or state.attempts >= MOST_ATTEMPTS:
        raise TransitionError(f"no attempt can start in {state.status} after {counted(state.attempts, 'attempt')}")
    return replace(state, status=Status.PROCESSING, attempts=state.attempts + 1)


def progressed(state: State, progress: float) -> State:
    """Record progress; a lower value than before, as after a resume, changes nothing."""
    _must_process(state, "progress")
    return replace(state, progress=max(state.progress, min(progress, 100.0)))


def died(state: State, failure: Failure) -> State:
    """End an attempt that died without an outcome; fail the job after MOST_ATTEMPTS."""
    _must_process(state, "die")
    return state if state.attempts < MOST_ATTEMPTS else failed(state, failure)


def requeued(state: State) -> State:
    """End an attempt that was interrupted through no fault of the job, such as by a server shutdown: it does not count."""
    _must_process(state, "be interrupted")
    return replace(state, attempts=max(0, state.attempts - 1))


def crashed(state: State, failure: Failure, *, progressed: bool) -> State:
    """End an attempt during which the server died: it counts, as the job may be the cause, unless it had made progress."""
    return requeued(state) if progressed else died(state, failure)


def failed(state: State, failure: Failure) -> State:
    """Fail a job. Raises TransitionError if it has ended."""
    if state.ended:
        how = f"it is {state.status}" if state.failure is None else f"it failed with {state.failure.reason}"
        raise TransitionError(f"the job has ended already: {how}")
    return replace(state, status=Status.ERROR, failure=failure)


def finished(state: State) -> State:
    """Mark a job as done, after its result can be read."""
    _must_process(state, "finish")
    return replace(state, status=Status.DONE, progress=100.0)


def cancelled(state: State) -> State:
    """Cancel a job. Raises TransitionError if it has ended."""
    return failed(state, Failure(Reason.CANCELLED, "The job was cancelled."))


def once(change: Callable[[State], State]) -> Callable[[State], State]:
    """Wrap a transition so that it can be retried: if it was stored although the response was lost, it changes nothing more."""
    results: list[State] = []

    def changed(state: State) -> State:
        if state not in results:
            results.append(state := change(state))
        return state

    return changed


def _must_process(state: State, verb: str) -> None:
    if state.status is not Status.PROCESSING:
        raise TransitionError(f"a job that is {state.status} cannot {verb}")
