"""Idle connections: limited in number, closed in time, and leaving room for work."""

import asyncio
import resource
import socket
import ssl
from contextlib import asynccontextmanager, closing, nullcontext, suppress
from functools import partial
from http.client import HTTPConnection

import httpx
import pytest
import trustme
import uvicorn
import websockets
from serving import Rpc, ServerProcess

from upres.service.server import http_server, settings
from upres.service.server.connections import WORK_FILES, Idle, TimedConnection, max_connections, raise_file_limit
from upres.service.server.http_server import bind_port
from upres.v2 import upscale_pb2 as pb

MANY = 1100


@pytest.fixture
def few_files():
    """A soft limit of 1024 open files in the processes started here, as in most shells; more in this one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * MANY:
        pytest.skip(f"this system allows {hard} open files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4 * MANY, hard))
    yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(port, count):
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]


@pytest.mark.parametrize("port", ["http_port", "grpc_port"])
def test_a_thousand_connections_that_say_nothing_hold_nobody_up(few_files, tmp_path, port):
    server = ServerProcess(tmp_path / "state", workers=0)
    few_files()
    with server.start():
        resource.setrlimit(resource.RLIMIT_NOFILE, (4 * MANY, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        idle = connect(server.settings[port], MANY)
        try:
            assert httpx.get(f"{server.base}/healthz", timeout=20).status_code == 200
            with Rpc(server.target) as rpc:
                assert rpc.call(rpc.jobs.ListJobs, pb.ListJobsRequest(), timeout=20).jobs == []
        finally:
            for connection in idle:
                connection.close()
        assert server.stop() == 0
    assert server.log.stat().st_size < 100_000


def answered(connection):
    connection.request("GET", "/healthz")
    response = connection.getresponse()
    return response.status == 200 and response.read()


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: "], ids=["nothing", "half a head"])
def test_a_connection_without_a_whole_request_is_closed_and_one_that_has_had_one_is_not(tmp_path, sent):
    with ServerProcess(tmp_path / "state", workers=0, request_seconds=0.5) as server:
        port = server.settings["http_port"]
        with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as kept:
            assert answered(kept)
            own = kept.sock.getsockname()
            with socket.create_connection(("127.0.0.1", port), 20) as slow:
                slow.sendall(sent)
                slow.settimeout(20)
                with pytest.raises(ConnectionResetError):
                    if slow.recv(1) == b"":
                        raise ConnectionResetError
            assert answered(kept) and kept.sock.getsockname() == own


UPGRADE = b"GET /app/key HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    "rest",
    [b"X-A: \x7f\r\n", b"X-A: " + b"a" * 9000 + b"\r\n", b"X-A: a\r\n" * 200, b""],
    ids=["text", "long", "many", "no key"],
)
def test_a_request_for_a_websocket_that_is_none_is_answered_and_closed(tmp_path, rest):
    with (
        ServerProcess(tmp_path / "state", workers=0) as server,
        socket.create_connection(("127.0.0.1", server.settings["http_port"]), 20) as connection,
    ):
        connection.sendall(UPGRADE + rest + b"\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 4") and b"\r\n\r\n" in answer
        assert server.stop() == 0
        assert [line for line in server.lines if line["level"] in ("ERROR", "CRITICAL")] == []


def test_at_the_cap_the_connection_that_has_been_idle_for_longest_makes_room():
    class Transport:
        aborted = closing = False

        def abort(self):
            self.aborted = True

        def is_closing(self):
            return self.closing

    idle, connections = Idle(2), []
    for _ in range(4):
        connection = TimedConnection.__new__(TimedConnection)
        connection.transport = Transport()
        connections.append(connection)
        idle.add(connection)
    idle.remove(connections[0])  # it has a request
    connections[1].transport.closing = True
    idle.make_room()
    assert [connection.transport.aborted for connection in connections] == [False, False, True, False]


@asynccontextmanager
async def sockets_of_one_endpoint(most):
    """Serve WebSockets that echo each message; yield the port."""

    async def app(scope, receive, send):
        while (message := await receive())["type"] != "websocket.disconnect":
            answer = (
                {"type": "websocket.accept"} if message["type"] == "websocket.connect" else {"type": "websocket.send"}
            )
            await send(answer | {key: message[key] for key in ("text",) if key in message})

    http = partial(TimedConnection, idle=Idle(most), seconds=60)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http=http, ws="websockets-sansio"))
    server.capture_signals = nullcontext
    listening = bind_port("127.0.0.1", 0)
    async with asyncio.timeout(60):
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(0)
        yield listening.getsockname()[1]
        server.should_exit = True
        await serving


async def closed(reader):
    """Return whether the server closes a connection; fails after a while."""
    with suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(1), 20) == b""
    return True


@pytest.mark.parametrize("leaves", [False, True], ids=["open", "closed"])
def test_a_websocket_is_not_idle_and_a_closed_one_saves_no_other_connection(leaves):
    async def scenario():
        async with sockets_of_one_endpoint(2) as port, websockets.connect(f"ws://127.0.0.1:{port}") as live:
            await live.send("before")
            assert await live.recv() == "before"
            if leaves:
                await live.close()
            plain = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 + leaves)]
            assert await closed(plain[0][0])
            if not leaves:
                await live.send("after")
                assert await live.recv() == "after"
            for _, writer in plain:
                writer.close()

    asyncio.run(scenario())


def test_silent_clients_of_a_tls_port_do_not_exhaust_its_connections(tmp_path, monkeypatch):
    """asyncio reports a connection only after its TLS handshake, so the limit of idle connections does not see these."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    client = ssl.create_default_context()
    authority.configure_trust(client)
    certificate = {"tls_certificate": tmp_path / "server.pem", "tls_key": tmp_path / "server.pem"}
    monkeypatch.setattr(http_server, "max_connections", lambda: 16)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def scenario():
        http = http_server.Http(settings.load(state=tmp_path, http_port=0, **certificate), app)
        async with asyncio.timeout(60), httpx.AsyncClient(verify=client) as web:
            await http.start()
            left = await asyncio.open_connection("127.0.0.1", http.port)
            left[1].close()
            silent = [await asyncio.open_connection("127.0.0.1", http.port) for _ in range(3)]
            assert await closed(silent[0][0])
            assert (await web.get(f"https://127.0.0.1:{http.port}/")).status_code == 204
            for _, writer in silent:
                writer.close()
            await http.stop()

    asyncio.run(scenario())


def test_the_limit_of_open_files_is_raised_and_shared(few_files):
    few_files()
    limit = raise_file_limit()
    assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1024
    assert 2 * max_connections() + WORK_FILES <= limit


def test_answers_leave_at_once():
    """Without TCP_NODELAY, a client that delays its acknowledgements would get each response 40 ms late."""

    async def scenario():
        options = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            options.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = bind_port("127.0.0.1", 0)
        async with await asyncio.start_server(serve, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            assert await asyncio.wait_for(options, 20) == 1
            writer.close()

    asyncio.run(scenario())
