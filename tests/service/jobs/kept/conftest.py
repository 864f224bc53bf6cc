"""Fixtures of the tests of jobs that are kept in an object store."""

import pytest
from away_store import Away

from upres.service.jobs import recovery
from upres.service.jobs.kept import logs
from upres.service.storage.job_folder import JobFolder
from upres.service.storage.results import Results


@pytest.fixture
def store():
    return Results("memory://", "job")


@pytest.fixture
def folder(tmp_path):
    """Create the folder of a job whose source has four bytes."""
    folder = JobFolder(tmp_path / "jobs" / "a")
    folder.make()
    folder.append(0, b"four")
    return folder


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(
        logs, "STOP_SECONDS", 200.0
    )  # even on a slow machine, published data is stored before a server stops
    return Away(tmp_path)


@pytest.fixture
def restarts_soon(monkeypatch):
    monkeypatch.setattr(recovery, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(recovery, "LONGEST_PAUSE", 0.01)
