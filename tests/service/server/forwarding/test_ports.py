"""The two ports of a server: what keeps them from being opened."""

from contextlib import ExitStack

import pytest

from upres.engine.core.errors import SettingsError
from upres.service.domain.errors import StoreError
from upres.service.server.forwarding.ports import Ports
from upres.service.server.http_server import bind_port
from upres.service.server.settings import Settings


def test_an_address_of_another_machine_is_named_as_such():
    with pytest.raises(StoreError, match=r"192\.0\.2\.1: it is not an address of this machine; --host 0\.0\.0\.0"):
        Ports(Settings(host="192.0.2.1", http_port=0, grpc_port=0))


def test_the_same_port_twice_is_refused():
    with pytest.raises(SettingsError, match="both are 8092; change --port or --grpc-port"):
        Ports(Settings(http_port=8092, grpc_port=8092))


@pytest.mark.parametrize("count", [1, 2])
def test_every_port_that_is_taken_is_named_with_its_option(count):
    with ExitStack() as stack:
        taken = [stack.enter_context(bind_port("127.0.0.1", 0)) for _ in range(count)]
        for each in taken:
            each.listen()
        numbers = [each.getsockname()[1] for each in taken]
        with pytest.raises(StoreError, match="in use") as refused:
            Ports(
                Settings(
                    **dict(zip(("grpc_port", "http_port"), numbers, strict=False)),
                    **{} if count == 2 else {"http_port": 0},
                )
            )
    assert all(f"port {number}" in str(refused.value) for number in numbers)
    assert "--grpc-port" in str(refused.value) and ("--port" in str(refused.value)) is (count == 2)
