"""Rates, on a clock of the test's own; and on a server, where one bucket holds for both doors."""

import uuid

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status
from serving import KEY, Rpc, ServerProcess

from upres.service.auth.rate_limit import Quota, Rates
from upres.service.domain.errors import BusyError
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
        left = (refused.headers["X-RateLimit-Remaining"], refused.headers["X-RateLimit-Daily-Remaining"])
        assert left == ("0", "0")  # of the minute's 600, none is of use before the day is over
        for path in ("/api/v2/models", "/api/v2/account/balance", "/api/v1/client/balance"):  # asked around every job
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
