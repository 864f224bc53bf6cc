"""What a confined process can no longer do, and is not told."""

import asyncio
import subprocess
import sys

import pytest

from upres.service.domain.spec import Limits, Spec
from upres.service.execution.probe import Probe

CONFINED = """
from upres.service.execution import sandbox
alone = sandbox.confine(memory_bytes=1 << 30, cpu_seconds=2, file_bytes=1000)
{attempt}
"""


def run(attempt):
    code = CONFINED.format(attempt=attempt)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the means")
def test_it_has_no_network_where_the_system_allows_that():
    connect = "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)"
    told = run("print(alone)").stdout.strip()
    if told == "True":
        assert "Network is unreachable" in run(connect).stderr


def test_it_has_no_more_memory_than_it_may():
    assert "MemoryError" in run("bytes(2 << 30)").stderr


def test_it_has_no_more_time_than_it_may():
    assert run("while True: pass").returncode < 0


def test_it_writes_no_larger_file_than_it_may(tmp_path):
    assert "File too large" in run(f"open({str(tmp_path / 'f')!r}, 'wb').write(bytes(10_000))").stderr


def test_what_looks_at_an_upload_is_told_no_secret_of_the_servers(tmp_path, monkeypatch):
    told = tmp_path / "told"
    stub = tmp_path / "python"
    stub.write_text(f'#!/bin/sh\nenv > {told}\ncat > /dev/null\necho \'{{"width": 1, "height": 1, "frames": 1}}\'\n')
    stub.chmod(0o700)
    for name in ("UPRES_API_KEY", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT_KEY"):
        monkeypatch.setenv(name, "a secret of the server")
    monkeypatch.setattr(sys, "executable", str(stub))
    asyncio.run(Probe(Limits())(tmp_path / "source", Spec("RealESRGAN_Vid_x4")))
    assert "PATH=" in told.read_text() and "a secret" not in told.read_text()
