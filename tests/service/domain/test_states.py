"""The state machine, driven by random sequences of transitions (hypothesis)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upres.service.domain import states
from upres.service.domain.states import MOST_ATTEMPTS, Code, Failure, Reason, State, Status, TransitionError

failures = st.builds(Failure, st.sampled_from(Reason), st.text(max_size=5))
changes = st.one_of(
    st.just(states.started),
    st.floats(-10, 200).map(lambda p: lambda s: states.progressed(s, p)),
    failures.map(lambda f: lambda s: states.died(s, f)),
    failures.map(lambda f: lambda s: states.failed(s, f)),
    st.just(states.requeued),
    st.just(states.finished),
    st.just(states.cancelled),
)
ORDER = [Status.PENDING, Status.PROCESSING, Status.DONE, Status.ERROR]


@given(st.lists(changes, max_size=30))
def test_every_history_keeps_the_contract(history):
    state = State()
    for change in history:
        before = state
        try:
            state = change(state)
        except TransitionError:
            continue
        assert not before.ended
        assert ORDER.index(state.status) >= ORDER.index(before.status)
        assert 0 <= before.progress <= state.progress <= 100
        assert 0 <= state.attempts <= MOST_ATTEMPTS
        assert (state.failure is not None) == (state.status is Status.ERROR)
        assert state.status is not Status.DONE or state.progress == 100


def test_an_attempt_that_dies_is_made_again_twice_then_the_job_fails():
    state, failure = State(), Failure(Reason.PROCESSING_FAILED, "died")
    for _ in range(MOST_ATTEMPTS - 1):
        state = states.died(states.started(state), failure)
        assert state.status is Status.PROCESSING
    state = states.died(states.started(state), failure)
    assert (state.status, state.failure) == (Status.ERROR, failure)


def test_an_interrupted_attempt_does_not_count():
    assert states.requeued(states.started(State())).attempts == 0


@given(st.sampled_from(Reason))
def test_every_reason_has_one_of_the_contracts_codes(reason):
    assert reason.code in Code
    assert not (reason is Reason.CANCELLED and reason.retryable)


@pytest.mark.parametrize("change", [states.started, states.requeued, states.finished])
def test_a_change_that_was_noted_is_not_made_again_and_one_that_was_not_is(change):
    before = states.started(State())
    again = states.once(change)
    assert again(before) == again(before) == again(again(before)) == change(before)
