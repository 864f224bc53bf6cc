"""Failures of jobs, and whether a retry may succeed."""

import pytest

from upres.engine.core.errors import EncoderError, LogError, ModelError, SettingsError, SourceError, TargetError
from upres.service.domain.failures import failure_of


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (SourceError, False),
        (ModelError, False),
        (SettingsError, False),
        (EncoderError, False),
        (TargetError, True),
        (LogError, True),  # another job has another log
    ],
)
def test_what_ends_the_same_way_again_is_not_retryable(error, retryable):
    assert failure_of(error.__name__, "why").reason.retryable is retryable
