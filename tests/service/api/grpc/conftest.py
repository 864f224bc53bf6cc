"""A server with the limits of the hosted API, and a channel to it."""

import pytest
from serving import Rpc, ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state", source_bytes=4 << 20, limits="deapi") as process:
        yield process


@pytest.fixture
def rpc(server):
    with Rpc(server.target) as rpc:
        yield rpc
