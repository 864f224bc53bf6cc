"""The fuzzer: its inputs and what it keeps; as a soak test, twenty thousand mutated sources."""

import os
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
import run
from mutation import minimize, mutate
from paths import SOAK, SUPPORT, TESTS

RUN = [sys.executable, str(TESTS / "fuzz" / "run.py")]


def fuzz(*options, timeout):
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    done = subprocess.run([*RUN, *options], capture_output=True, text=True, timeout=timeout, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_the_same_seed_makes_the_same_inputs():
    seeds = [bytes(range(256)), b"short"]
    inputs = [[mutate(random.Random(seed), seeds) for seed in range(200)] for _ in range(2)]
    assert inputs[0] == inputs[1] and len({*inputs[0]}) > 150


def test_what_fails_is_made_as_small_as_it_can_be():
    assert minimize(bytes(500) + b"!" + bytes(400) + b"?", lambda data: b"!" in data and b"?" in data) == b"!?"


def test_what_is_never_answered_is_made_smaller_for_a_limited_time(tmp_path, monkeypatch):
    now = [0.0]

    def fault(send, data):
        now[0] += 60
        return "no answer" if len(data) > 900 else None

    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])
    target, watch = SimpleNamespace(name="requests", send=None), SimpleNamespace(fault=fault)
    (name,) = run.store_failures(target, watch, {bytes(1000): "no answer"}, tmp_path)
    assert (tmp_path / name).stat().st_size > 900 and now[0] <= 60 + run.SMALL_SECONDS + 60


@pytest.mark.soak
def test_twenty_thousand_sources_leave_the_server_as_it_was():
    code, report = fuzz("--kinds", "sources", "--count", "20000", "--kept", str(SOAK / "fuzz"), timeout=4 * 3600)
    (SOAK / "fuzz.json").write_text(report)
    assert code == 0, report
