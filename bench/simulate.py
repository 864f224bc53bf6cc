"""Simulate a large fleet: python bench/simulate.py [RESULTS.json] [--devices 1000] [--jobs 1000000] [--seed 1]; needs `simpy`.

A day of jobs passes through the server's queue, on simulated devices. The duration of a job follows from the assumptions below,
which are included in the results. Times are in seconds.
"""

import argparse
import json
import math
import random
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, Protocol

import simpy

from upres.service.jobs.fair_queue import FairQueue

HOUR, DAY = 3600.0, 86400.0
SMALL = "tenant 49"  # the tenant with the fewest jobs


@dataclass(frozen=True)
class Assumed:
    """Assumptions that were not measured on a fleet.

    frames_a_second: of an H100 with 16 cores that encode on the CPU, from arithmetic limits and measured encoding. shares: of
    jobs. clip_median, clip_spread: of a lognormal duration. rate: frames per second of the clips. start: start-up of an attempt,
    measured on two CPU cores. swing: relative excess of the busiest hour over the mean. range_seconds: work in a range; half of
    it is lost if a device fails. tenants: the n-th sends 1/n of the jobs of the first.
    """

    frames_a_second: tuple[float, ...] = (78.0, 139.0, 66.0)  # 480p x4, 720p x2, 1080p x2
    shares: tuple[float, ...] = (0.5, 0.35, 0.15)
    clip_median: float = 60.0
    clip_spread: float = 1.0
    rate: float = 30.0
    start: float = 0.7
    swing: float = 0.6
    range_seconds: float = 15.0
    tenants: int = 50


@dataclass(slots=True)
class Job:
    """A job. remaining: seconds of work still to do. since: time of submission. waited: time until a device first processed it."""

    owner: str
    remaining: float
    since: float
    waited: float | None = None


class Queue(Protocol):
    """The interface shared by the server's queue and a plain one."""

    def put(self, request_id: str, owner: str, *, again: bool = False) -> None:
        """Add a job."""

    def take(self, running: Mapping[str, int]) -> str | None:
        """Remove and return the next job; None if none is waiting."""


class OneLine:
    """A first-come, first-served queue, for comparison with the fair queue."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()

    def put(self, request_id: str, owner: str, *, again: bool = False) -> None:
        """Add a job at the end, or at the front if it was interrupted."""
        (self._waiting.appendleft if again else self._waiting.append)(request_id)

    def take(self, running: Mapping[str, int]) -> str | None:
        """Remove and return the first job."""
        return self._waiting.popleft() if self._waiting else None


@dataclass
class Fleet:
    """Devices that process a queue. lost: number of unavailable devices. done: jobs that have ended."""

    env: simpy.Environment
    devices: int
    queue: Queue
    range_seconds: float = 15.0
    lost: int = 0
    done: list[Job] = field(default_factory=list)
    most_waiting: int = 0
    busy: float = 0.0

    def __post_init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._running: Counter[str] = Counter()
        self._works: dict[str, simpy.Process] = {}
        self._number = 0

    def submit(self, owner: str, seconds: float) -> None:
        """Add a job with an amount of work in seconds."""
        self._number += 1
        name = str(self._number)
        self._jobs[name] = Job(owner, seconds, self.env.now)
        self.queue.put(name, owner)
        self._dispatch()

    def lose(self, devices: int) -> None:
        """Remove devices; their jobs are queued again, and half a range of each has to be repeated."""
        self.lost += devices
        share = devices / self.devices
        for name in [*self._works][: round(share * len(self._works))]:
            self._works[name].interrupt()

    def restore(self) -> None:
        """Make all devices available again."""
        self.lost = 0
        self._dispatch()

    def _dispatch(self) -> None:
        while len(self._works) < self.devices - self.lost and (name := self.queue.take(self._running)):
            job = self._jobs[name]
            if job.waited is None:
                job.waited = self.env.now - job.since
            self._running[job.owner] += 1
            self._works[name] = self.env.process(self._work(name, job))
        self.most_waiting = max(self.most_waiting, len(self._jobs) - len(self._works))

    def _work(self, name: str, job: Job) -> Iterator[simpy.Event]:
        start = self.env.now
        try:
            yield self.env.timeout(job.remaining)
        except simpy.Interrupt:
            job.remaining = min(job.remaining, job.remaining - (self.env.now - start) + self.range_seconds / 2)
            self.queue.put(name, job.owner, again=True)
        else:
            self.done.append(self._jobs.pop(name))
        self.busy += self.env.now - start
        self._running[job.owner] -= 1
        self._running += Counter()  # removes entries that are not positive
        del self._works[name]
        self._dispatch()


def arrivals(fleet: Fleet, jobs: float, assumed: Assumed, rng: random.Random) -> Iterator[simpy.Event]:
    """Submit a day's jobs at random times, most of them around noon."""
    shares = [1 / (1 + number) for number in range(assumed.tenants)]
    owners = [f"tenant {number}" for number in range(assumed.tenants)]
    peak_rate = jobs / DAY * (1 + assumed.swing)
    while True:
        yield fleet.env.timeout(rng.expovariate(peak_rate))
        now = 1 - assumed.swing * math.cos(2 * math.pi * fleet.env.now / DAY)
        if rng.random() * (1 + assumed.swing) < now:
            fleet.submit(rng.choices(owners, shares)[0], seconds_of_work(assumed, rng))


def seconds_of_work(assumed: Assumed, rng: random.Random) -> float:
    """Draw the seconds that one device needs for a job."""
    clip = rng.lognormvariate(math.log(assumed.clip_median), assumed.clip_spread)
    [speed] = rng.choices(assumed.frames_a_second, assumed.shares)
    return assumed.start + clip * assumed.rate / speed


def at(fleet: Fleet, when: float, action: Any) -> Iterator[simpy.Event]:  # noqa: ANN401 - any call
    """Call an action at a simulated time."""
    yield fleet.env.timeout(when)
    action()


def day(devices: int, jobs: int, assumed: Assumed, seed: int, queue: Queue, *events: tuple[float, Any]) -> Fleet:
    """Simulate a day. events: times, and actions that are called with the fleet."""
    env = simpy.Environment()
    fleet = Fleet(env, devices, queue, assumed.range_seconds)
    env.process(arrivals(fleet, jobs, assumed, random.Random(seed)))
    for when, action in events:
        env.process(at(fleet, when, lambda action=action: action(fleet)))
    env.run(DAY)
    return fleet


def waits(jobs: list[Job]) -> dict[str, float]:
    """Return quantiles of the time that jobs waited for a device."""
    each = quantiles([job.waited or 0.0 for job in jobs], n=1000)
    return {"jobs": len(jobs), "p50": round(each[499], 2), "p99": round(each[989], 2), "p99.9": round(each[998], 2)}


def summarize(fleet: Fleet) -> dict[str, Any]:
    """Return the results of a day."""
    busiest = [job for job in fleet.done if DAY / 2 <= job.since < DAY / 2 + HOUR]
    return {
        "all day": waits(fleet.done),
        "the busiest hour": waits(busiest),
        "the smallest tenant in it": waits([job for job in busiest if job.owner == SMALL]),
        "most jobs waiting": fleet.most_waiting,
        "devices busy": round(fleet.busy / DAY / fleet.devices, 3),
    }


def main() -> None:
    """Simulate all scenarios and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="jobs per day")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    assumed, noon, most = Assumed(), DAY / 2, options.jobs
    third, burst = options.devices // 3, options.jobs // 50
    rng = random.Random(options.seed)

    def greedy(fleet: Fleet) -> None:
        for _ in range(burst):
            fleet.submit("greedy", seconds_of_work(assumed, rng))

    zone = ((noon, lambda fleet: fleet.lose(third)), (noon + HOUR, Fleet.restore))
    days: dict[str, tuple[Queue, tuple[tuple[float, Any], ...]]] = {
        "a day": (FairQueue(most), ()),
        f"one tenant sends {burst} jobs at once at the busiest hour": (FairQueue(most), ((noon, greedy),)),
        "the same, first come, first served": (OneLine(), ((noon, greedy),)),
        f"{third} devices are lost for that hour": (FairQueue(most), zone),
    }
    document = {
        "assumed": asdict(assumed),
        "devices": options.devices,
        "jobs a day": options.jobs,
        "seed": options.seed,
        "days": {
            name: summarize(day(options.devices, options.jobs, assumed, options.seed, queue, *events))
            for name, (queue, events) in days.items()
        },
    }
    text = json.dumps(document, indent=2)
    sys.stdout.write(text + "\n")
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
