"""Rate limits on a simulated clock, and on a server, where HTTP and gRPC share one limit."""

import asyncio
import uuid
from contextlib import closing

import databases
import grpc
import httpx
import psycopg
import pytest
import sqlalchemy as sa
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status
from serving import KEY, Rpc, ServerProcess

from upres.service.auth.rate_limit import Counted, Quota, Rates
from upres.service.auth.shared_quota import SharedQuota
from upres.service.domain.errors import BusyError
from upres.service.storage.dialects import WRITERS
from upres.service.storage.job_store import Store
from upres.service.storage.lease import Lease
from upres.service.storage.schema import requests
from upres.v2 import upscale_pb2 as pb


def test_a_key_has_so_many_requests_a_minute_and_a_day():
    now = [90.0]
    quota = Quota(2, 3, clock=lambda: now[0])
    quota.take("a")
    assert quota.rates("a") == Rates(2, 1, 3, 2)
    quota.take("a")
    with pytest.raises(BusyError) as caught:
        quota.take("a")
    assert (caught.value.kind, caught.value.retry_seconds) == ("minute", 31)
    assert quota.rates("b") == quota.rates(None) == Rates(2, 2, 3, 3)
    now[0] = 121.0
    assert quota.rates("a") == Rates(2, 2, 3, 1)
    quota.take("a")
    with pytest.raises(BusyError) as caught:
        quota.take("a")
    assert caught.value.kind == "daily"


def test_what_other_servers_have_counted_counts_until_its_window_has_passed():
    now = [90.0]
    quota = Quota(3, 9, clock=lambda: now[0])
    quota.take("a")
    published = quota.unpublished()
    assert published == [Counted("a", "minute", 1, 1), Counted("a", "daily", 0, 1)]
    quota.take("a")  # while the counts are being published
    quota.merge(published, [Counted("a", "minute", 1, 1), Counted("a", "daily", 0, 4), Counted("b", "minute", 1, 3)])
    assert quota.unpublished() == [Counted("a", "minute", 1, 2), Counted("a", "daily", 0, 2)]
    for owner in ("a", "b"):
        with pytest.raises(BusyError):
            quota.take(owner)
    assert quota.rates("a") == Rates(3, 0, 9, 3)
    now[0] = 121.0
    quota.take("a")
    quota.merge([], [Counted("a", "minute", 1, 3)])  # of the previous minute
    assert quota.rates("a") == Rates(3, 2, 9, 2)


@pytest.mark.scale
def test_servers_of_one_database_hold_a_limit_together(postgres):
    now, url = [90.0], databases.fresh()
    stores = [Store(url) for _ in range(3)]
    for store in stores:
        assert store.acquire(Lease("here", joins=True)) is None
    quotas = [Quota(4, 100, clock=lambda: now[0]) for _ in stores]
    shared = [SharedQuota(quota, store) for quota, store in zip(quotas, stores, strict=True)]

    def exchange():
        for each in (*shared, *shared):
            asyncio.run(each.exchange())

    for quota in quotas:
        quota.take("a")
    exchange()
    assert [quota.rates("a").remaining_this_minute for quota in quotas] == [1, 1, 1]
    quotas[2].take("a")
    exchange()
    with pytest.raises(BusyError):
        quotas[0].take("a")
    now[0] += 180
    exchange()
    assert [quota.rates("a") for quota in quotas] == [Rates(4, 4, 100, 96)] * 3
    quotas[0].take("a")
    exchange()
    with stores[0].snapshot() as connection:
        numbers = set(connection.scalars(sa.select(requests.c.number).where(requests.c.kind == "minute")))
    assert numbers == {4}  # past windows are removed
    for store in stores:
        store.close()


@pytest.mark.scale
def test_rates_are_exchanged_while_somebody_has_the_turn_to_write(postgres):
    """Nor do they wait for rows that another server is deleting."""
    now, url = [90.0], databases.fresh()
    hasty = f"{url}&options=-c%20lock_timeout%3D100"
    with closing(Store(url)) as store, closing(Store(hasty)) as other, psycopg.connect(url) as writer:
        for each in (store, other):
            assert each.acquire(Lease("here", joins=True)) is None
        quotas = [Quota(4, 100, clock=lambda: now[0]) for _ in range(2)]
        shared = [SharedQuota(quota, each) for quota, each in zip(quotas, (store, other), strict=True)]
        quotas[0].take("a")
        asyncio.run(shared[0].exchange())
        now[0] += 300
        writer.execute("SELECT pg_advisory_xact_lock(%s)", (WRITERS,))
        writer.execute("DELETE FROM requests")
        quotas[1].take("a")
        asyncio.run(shared[1].exchange())
        writer.rollback()
        asyncio.run(shared[0].exchange())
    assert quotas[0].rates("a").remaining_this_minute == 3


def test_http_and_grpc_take_from_one_bucket_of_a_key(tmp_path):
    headers, job = {"Authorization": f"Bearer {KEY}"}, f"/api/v2/jobs/{uuid.uuid4()}"
    with ServerProcess(tmp_path / "state", requests_per_day=3, workers=0) as server, Rpc(server.target) as rpc:
        first = httpx.get(server.base + job, headers=headers)
        assert first.status_code == 404
        assert (first.headers["X-RateLimit-Daily-Limit"], first.headers["X-RateLimit-Daily-Remaining"]) == ("3", "2")
        for _ in range(2):
            rpc.call(rpc.models.ListModels, pb.ListModelsRequest())
        refused = httpx.get(server.base + job, headers=headers)
        assert (refused.status_code, refused.headers["X-RateLimit-Type"]) == (429, "daily")
        assert refused.headers["X-RateLimit-Source"] == "api_key"
        remaining = (refused.headers["X-RateLimit-Remaining"], refused.headers["X-RateLimit-Daily-Remaining"])
        assert remaining == ("0", "0")  # of the minute's 600, none can be used before the day is over
        for path in (
            "/api/v2/models",
            "/api/v2/account/balance",
            "/api/v1/client/balance",
        ):  # requested around every job
            assert httpx.get(server.base + path, headers=headers).status_code == 200
        for method, request in ((rpc.models.ListModels, pb.ListModelsRequest()), (rpc.upscale.Upscale, iter(()))):
            with pytest.raises(grpc.RpcError) as caught:
                list(rpc.call(method, request)) if method is rpc.upscale.Upscale else rpc.call(method, request)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            details = {
                detail.type_url.rpartition(".")[2]: detail for detail in rpc_status.from_call(caught.value).details
            }
            assert ErrorInfo.FromString(details["ErrorInfo"].value).reason == "BUSY"
            wait = RetryInfo.FromString(details["RetryInfo"].value).retry_delay.seconds
            assert 0 < wait <= 86_400 and wait <= int(refused.headers["Retry-After"])
        with pytest.raises(grpc.RpcError) as caught, Rpc(server.target, "no key") as stranger:
            stranger.call(stranger.models.ListModels, pb.ListModelsRequest())
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
