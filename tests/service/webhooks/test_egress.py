"""Requests to untrusted URLs: what is rejected, and that the address called is the address checked."""

import asyncio
import socket
from ipaddress import ip_address

import httpx
import pytest
import trustme
from receiver import receiving

from upres.engine.core.errors import SettingsError
from upres.service.webhooks.egress import Allowed, Egress, RefusedError, Resolver, UnreachableError

LOCAL = Allowed(http=True, hosts=frozenset({"hooks.example"}))
PUBLIC = "93.184.216.34"


class Names:
    """Resolver that returns the given results in turn, and repeats the last one."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.hosts = []

    async def __call__(self, host, port):
        self.hosts.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority):
    context = httpx.create_ssl_context()
    authority.configure_trust(context)
    return context


def post(egress, url, body=b"{}"):
    return asyncio.run(egress.post(url, {"X-Test": ""}, body))


def addresses(egress, url):
    return asyncio.run(egress.addresses(egress.parse(url)))


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("http://hooks.example/", "begin with https://"),
        ("ftp://hooks.example/", "begin with https://"),
        ("//hooks.example/", "begin with https://"),
        ("https:///path", "must have a host"),
        ("https://hooks.example:99999/", "port between"),
        ("https://hooks.example:0/", "port between"),
        ("https://hooks.example/\n", "malformed"),
        ("https://1.2.3.999/", "malformed"),
        ("https://hooks.example/\ud800", "malformed"),
        ("https://xn--a/hook", "malformed"),
        ("https://xn--zzzzzzzz.example/", "malformed"),
        ("https://xn--/", "malformed"),
        ("https://hooks.example/" + "a" * 2048, "2048 characters"),
    ],
)
def test_a_url_that_may_not_be_called_says_why(url, wrong):
    with pytest.raises(RefusedError, match=wrong):
        Egress(Names([PUBLIC])).parse(url)


def test_the_longest_url_is_taken():
    url = "https://hooks.example/"
    assert Egress(Names([PUBLIC])).parse(url + "a" * (2048 - len(url)))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:192.168.0.1", "fe80::1%2"])
def test_one_address_that_is_not_public_is_enough(address):
    with pytest.raises(RefusedError, match="must have public ones only"):
        addresses(Egress(Names([PUBLIC, address])), "https://hooks.example/")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "[::1]", "[::ffff:7f00:1]", "localhost"]
)
def test_no_spelling_of_this_machine_gets_past_the_systems_resolver(host):
    resolver = Resolver(1)
    with pytest.raises((RefusedError, UnreachableError)):
        addresses(Egress(resolver), f"https://{host}/")
    resolver.close()


def test_the_operator_allows_hosts_and_networks():
    allowed = Allowed.parse(True, ["Intranet.example.", "10.1.0.0/16", "fd00::/8", "169.254.0.0/16"])
    assert allowed.permits("intranet.example", ip_address("192.168.1.1"))
    assert allowed.permits("INTRANET.example", ip_address("127.0.0.1"))
    assert not allowed.permits("intranet.example", ip_address("224.0.0.1"))
    assert not allowed.permits("other.example", ip_address("192.168.1.1"))
    assert allowed.permits("other.example", ip_address("10.1.255.1"))
    assert allowed.permits("other.example", ip_address("::ffff:10.1.0.1"))
    assert not allowed.permits("other.example", ip_address("10.2.0.1"))
    assert allowed.permits("other.example", ip_address("169.254.7.7"))
    assert not allowed.permits("intranet.example", ip_address("169.254.169.254"))
    assert not allowed.permits("other.example", ip_address("fd00:ec2::254"))


@pytest.mark.parametrize("name", ["10.1.0.1/16", "300.1.1.1", "", "fd00::/200"])
def test_what_is_neither_host_nor_network_is_named(name):
    with pytest.raises(SettingsError, match="not a host or network"):
        Allowed.parse(False, [name])


def test_the_bytes_arrive_with_the_urls_own_host_and_name(authority, tls, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    names = Names(["127.0.0.1"], [PUBLIC])
    with receiving(authority) as receiver:
        assert post(Egress(names, LOCAL, tls), receiver.url(path="/a?b=c"), b"\x00bytes") == 200
        path, headers, body = receiver.received[0]
        assert (path, body, headers["X-Test"]) == ("/a?b=c", b"\x00bytes", "")
        assert headers["Host"] == f"hooks.example:{receiver.server_port}"
        assert receiver.names == ["hooks.example"]
    assert names.hosts == ["hooks.example"]


def test_a_certificate_for_another_name_is_not_taken(authority, tls):
    with receiving(authority, name="other.example") as receiver:
        with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            post(Egress(Names(["127.0.0.1"]), LOCAL, tls), receiver.url())
        assert receiver.received == []


def test_a_certificate_of_an_unknown_authority_is_not_taken(authority):
    with receiving(authority) as receiver, pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        post(Egress(Names(["127.0.0.1"]), LOCAL), receiver.url())


def test_a_name_that_turns_private_after_it_was_checked_is_not_called():
    egress = Egress(Names([PUBLIC], ["127.0.0.1"]), Allowed(http=True))
    with receiving() as receiver:
        assert addresses(egress, receiver.url()) == [ip_address(PUBLIC)]
        with pytest.raises(RefusedError, match="loopback"):
            post(egress, receiver.url())
        assert receiver.received == []


def test_a_redirect_is_an_answer_and_not_followed():
    with receiving() as receiver:
        receiver.answers[0] = 307
        assert post(Egress(Names(["127.0.0.1"]), LOCAL), receiver.url()) == 307
        assert len(receiver.received) == 1


def test_no_answer_in_time_is_told():
    with receiving() as receiver:
        receiver.hold.clear()
        with pytest.raises(UnreachableError, match="within"):
            post(Egress(Names(["127.0.0.1"]), LOCAL, seconds=0.2), receiver.url())
        assert len(receiver.received) == 1


def test_a_resolver_that_does_not_answer_is_given_up():
    class Silent(Names):
        async def __call__(self, host, port):
            await asyncio.Event().wait()

    egress = Egress(Silent(), seconds=0.01)
    with pytest.raises(UnreachableError, match="resolved"):
        addresses(egress, "https://hooks.example/")
    with pytest.raises(UnreachableError):
        post(egress, "https://hooks.example/")


@pytest.mark.parametrize("answer", [socket.gaierror(-2, "Name or service not known"), []])
def test_a_host_without_an_address_cannot_be_reached(answer):
    with pytest.raises(UnreachableError, match=r"hooks\.example"):
        addresses(Egress(Names(answer)), "https://hooks.example/")


def test_the_next_address_is_tried_where_no_connection_can_be_made():
    with receiving() as receiver:
        egress = Egress(Names(["127.0.0.2", "127.0.0.1"]), LOCAL)
        assert post(egress, receiver.url()) == 200
        with pytest.raises(UnreachableError, match="no response"):
            post(Egress(Names(["127.0.0.2"]), LOCAL), receiver.url())


def test_an_answer_that_breaks_off_is_not_tried_elsewhere():
    async def cut(reader, writer):
        await reader.read(10)
        writer.close()

    async def call():
        async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            egress = Egress(Names(["127.0.0.1", "127.0.0.1"]), LOCAL)
            await egress.post(f"http://hooks.example:{port}/", {}, b"{}")

    with pytest.raises(UnreachableError, match="no response"):
        asyncio.run(call())
