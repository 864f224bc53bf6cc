"""Fixtures for the tests of `KeepUp`."""

import pytest
from live_source import World


@pytest.fixture
def world():
    """Yield a live source whose stage is running."""
    new_world = World()
    with new_world.stage:
        yield new_world
