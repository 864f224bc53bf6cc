"""A database begins to keep its jobs in a store once none is left whose source is on the disk of a server alone."""

import databases
import pytest

from upres.service.domain import states
from upres.service.domain.errors import StoreError
from upres.service.domain.states import Failure, Reason
from upres.service.server.standby import Standby
from upres.service.storage.job_store import Job, Store

URL = "s3://bucket/prefix"


@pytest.fixture
def store(tmp_path):
    store = Store(databases.url(tmp_path / "jobs.db"))
    yield store
    store.close()


def test_no_server_begins_with_a_store_while_jobs_wait_whose_sources_are_in_none(store, tmp_path):
    job, _ = store.add(Job("a", "alice", {}, accepted=True, source_complete=True))
    with pytest.raises(StoreError, match=r"1 job .* not ended.* start without UPRES_STORE"):
        Standby(store, tmp_path, "here", kept=URL)
    Standby(store, tmp_path, "here")  # which is what is left to do
    store.change(job.request_id, lambda state: states.failed(state, Failure(Reason.PROCESSING_FAILED, "")))
    Standby(store, tmp_path, "here", kept=URL)


def test_jobs_whose_sources_still_arrive_hold_up_no_server_later(store, tmp_path):
    Standby(store, tmp_path, "here", kept=URL)
    store.add(Job("a", "alice", {}))
    Standby(store, tmp_path, "here", kept=URL)
