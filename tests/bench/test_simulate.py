"""The simulated fleet: it agrees with queueing theory, and the server's queue is fair in it."""

import importlib
import math
import random
from statistics import mean

import pytest
import simpy
from paths import ROOT

from upres.service.jobs.fair_queue import FairQueue


@pytest.fixture
def simulate(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module("simulate")


def erlang_c(servers, load):
    """Compute the share of arrivals that wait (A. K. Erlang, 1917). load: arrivals per service time."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**number / math.factorial(number) for number in range(servers)) + last)


def test_random_arrivals_wait_as_long_as_erlang_says(simulate):
    servers, load, rng = 4, 3.2, random.Random(7)
    env = simpy.Environment()
    fleet = simulate.Fleet(env, servers, FairQueue(10**6))

    def arrive():
        while True:
            yield env.timeout(rng.expovariate(load))
            fleet.submit("anyone", rng.expovariate(1))

    env.process(arrive())
    env.run(30_000)
    expected = erlang_c(servers, load) / (servers - load)
    assert mean(job.waited for job in fleet.done) == pytest.approx(expected, rel=0.1)


def test_a_tenant_who_sends_much_at_once_holds_up_himself(simulate):
    def much(fleet):
        for _ in range(300):
            fleet.submit("greedy", 60)

    waits = {}
    for name, queue in (("fair", FairQueue(10**6)), ("one line", simulate.OneLine())):
        fleet = simulate.day(10, 8000, simulate.Assumed(), 1, queue, (simulate.DAY / 2, much))
        assert not [job for job in fleet.done if job.remaining < 0]
        waits[name] = simulate.summarize(fleet)["the smallest tenant in it"]["p99"]
    assert waits["fair"] < waits["one line"] / 10


def test_devices_that_are_lost_lose_half_a_range_of_each_job_and_no_job(simulate):
    env = simpy.Environment()
    fleet = simulate.Fleet(env, 2, FairQueue(10), range_seconds=20)
    for _ in range(3):
        fleet.submit("anyone", 100)
    env.process(simulate.at(fleet, 50, lambda: fleet.lose(1)))
    env.process(simulate.at(fleet, 100, fleet.restore))
    env.run(1000)
    assert len(fleet.done) == 3
    assert fleet.busy == 310  # three jobs, and half a range repeated
