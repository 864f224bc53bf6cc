"""The measurement of many waiting jobs runs on any machine with few jobs, and shows that the queue is fair."""

import json
import subprocess
import sys

from paths import ROOT


def test_the_queue_is_fair_however_many_jobs_one_tenant_has(tmp_path):
    out = tmp_path / "out.json"
    sizes = ["--jobs", "60", "--tenants", "10", "--attempts", "20", "--results", out]
    command = [sys.executable, ROOT / "bench" / "many_jobs.py", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert (document["database"], document["tenants_among_the_first_100"]) == ("sqlite", 10)
    assert document["statements_per_attempt"] > 0
