"""The reaction of a server that shares the work to the state of the other servers."""

import asyncio
from types import SimpleNamespace

import pytest

from upres.service.server.forwarding.peer_monitor import LOOKS, PeerMonitor
from upres.service.storage.lease import Servers


class Place:
    """This server's place among the servers that it sees."""

    id = "here"
    leads = False

    def __init__(self, *looks):
        self.looks = [*looks]
        self.store = SimpleNamespace(servers=lambda: self.looks.pop(0))

    async def lead(self):
        self.leads = True


async def nothing(*_):
    pass


def looked(place, folder):
    """Check the servers for each given state; return after each check whether this server leads."""
    jobs, peers = SimpleNamespace(take_over=nothing), SimpleNamespace(keep=nothing)
    monitor, led = PeerMonitor(place, jobs, peers, nothing, folder), []

    async def scenario():
        while place.looks:
            await monitor._check_servers()
            led.append(place.leads)

    asyncio.run(scenario())
    return led


def servers(leader, late=()):
    return Servers(frozenset({"here", "other"} - {*late}), frozenset(late), leader)


def test_a_server_leads_once_the_one_that_did_was_late_for_long_enough(tmp_path):
    late = servers("other", late=["other"])
    assert looked(Place(*[late] * (LOOKS - 1), servers("other"), *[late] * LOOKS), tmp_path) == [
        *[False] * (2 * LOOKS - 1),
        True,
    ]


@pytest.mark.parametrize("leader", [None, "here"])
def test_a_server_leads_where_nobody_does_or_the_database_says_that_it_does(tmp_path, leader):
    """The response to the write that made it the leader may have been lost."""
    assert looked(Place(servers(leader)), tmp_path) == [True]


def test_a_server_does_not_lead_where_another_one_does(tmp_path):
    assert looked(Place(servers("other")), tmp_path) == [False]
