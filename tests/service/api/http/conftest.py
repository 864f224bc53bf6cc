"""A server with the limits of the hosted API, and a client of it."""

import httpx
import pytest
from serving import ServerProcess
from web_calls import HEADERS


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(
        tmp_path_factory.mktemp("server") / "state", requests_per_minute=5000, limits="deapi"
    ) as process:
        yield process


@pytest.fixture
def web(server):
    with httpx.Client(base_url=server.base, headers=HEADERS, timeout=60) as client:
        yield client
