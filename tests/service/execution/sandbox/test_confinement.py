"""The restrictions on a process that opens untrusted media. Run as a user other than root, whose losses would prove little."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from upres.service.execution.sandbox import landlock, seccomp

NOBODY = 65534
CONFINED = """
import ctypes, os, signal, socket, subprocess, sys, threading
from pathlib import Path
from upres.service.execution.sandbox.confinement import code_folders, confine
from upres.service.execution.sandbox.limits import Bounds

code_folders()
if {drop} and not os.getuid():
    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
confinement = confine(Bounds(memory_bytes=1 << 30, cpu_seconds=2, file_bytes=1000), writable=[Path({own!r})])
{attempt}
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the means")


@pytest.fixture
def own():
    """A folder that the confined process may use, inside one that it may not; only the confinement separates them."""
    with tempfile.TemporaryDirectory(prefix="upres-") as name:
        folder = Path(name) / "own"
        folder.mkdir()
        for path, mode in ((folder, 0o777), (folder.parent, 0o755)):
            path.chmod(mode)
        (folder.parent / "other").write_text("a secret of another")
        (folder.parent / "other").chmod(0o666)
        yield folder


def run(own, attempt, *, drop=True):
    code = CONFINED.format(drop=drop, nobody=NOBODY, own=str(own), attempt=attempt)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.strip(), done.stderr


@linux
def test_this_system_cuts_off_network_and_files(own):
    """CI runs where both are available; on other systems the server reports what is missing."""
    assert run(own, "print(confinement)")[1] == "Confinement(network=True, files=True)"


@linux
@pytest.mark.parametrize("kind", ["AF_INET", "AF_INET6", "AF_UNIX"])
def test_it_reaches_nobody_who_listens(own, kind):
    with socket.socket(getattr(socket, kind)) as listening:
        listening.bind(str(own / "s") if kind == "AF_UNIX" else ("127.0.0.1" if kind == "AF_INET" else "::1", 0))
        listening.listen()
        listening.settimeout(0)
        name = listening.getsockname()
        _, _, problem = run(own, f"socket.socket(socket.{kind}).connect({name!r})")
        assert "PermissionError" in problem
        with pytest.raises(BlockingIOError):
            listening.accept()


@linux
def test_it_sends_no_datagram_either(own):
    assert "PermissionError" in run(own, "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")[2]


@linux
def test_it_sends_none_by_a_pair_of_sockets_which_could_send_to_others(own):
    assert "PermissionError" in run(own, "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)")[2]
    assert run(own, "a, b = socket.socketpair(); a.send(b'x'); print(b.recv(9))")[1] == "b'x'"


@linux
def test_it_reads_and_writes_its_folder_and_no_other(own):
    assert run(own, f"Path({str(own)!r}, 'f').write_text('x'); print(Path({str(own)!r}, 'f').read_text())")[1] == "x"
    for attempt in ("read_text()", "write_text('x')", "unlink()"):
        assert "PermissionError" in run(own, f"Path({str(own.parent / 'other')!r}).{attempt}")[2]
    assert "PermissionError" in run(own, "Path('/etc/passwd').read_text()")[2]


@linux
@pytest.mark.parametrize(
    "attempt",
    [
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "subprocess.run(['/bin/true'])",
        "os.kill(os.getppid(), signal.SIGTERM)",
        "signal.pidfd_send_signal(os.pidfd_open(os.getppid()), signal.SIGTERM)",
        "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
    ],
)
def test_it_starts_no_program_and_touches_no_other_process(own, attempt):
    status, _, problem = run(own, attempt)
    assert status == 1 and "PermissionError" in problem


@linux
def test_threads_and_late_imports_work(own):
    threads = "t = threading.Thread(target=lambda: print('ran')); t.start(); t.join()"
    assert run(own, threads)[1] == "ran"
    assert run(own, "import sqlite3, wave; print(wave.__name__)", drop=False)[1] == "wave"


@linux
def test_an_abort_still_ends_it(own):
    assert run(own, "os.abort()")[0] < 0


def test_it_has_no_more_memory_than_it_may(own):
    assert "MemoryError" in run(own, "bytes(2 << 30)")[2]


def test_it_has_no_more_time_than_it_may(own):
    assert run(own, "while True: pass")[0] < 0


def test_it_writes_no_larger_file_than_it_may(own):
    assert "File too large" in run(own, f"open({str(own / 'f')!r}, 'wb').write(bytes(10_000))")[2]


@pytest.mark.parametrize("machine", ["riscv64", "i686"])
def test_another_architecture_is_not_taken_for_a_known_one(machine, monkeypatch):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: machine)
    assert not seccomp.restrict()


def test_a_kernel_without_landlock_says_so(monkeypatch):
    monkeypatch.setattr(landlock, "_version", lambda: -1)
    assert not landlock.restrict(writable=[])


def test_what_opens_media_holds_no_secret_of_the_servers(monkeypatch):
    from upres.service.execution.sandbox.environment import environment

    secrets = ("UPRES_API_KEY", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT_KEY")
    for name in secrets:
        monkeypatch.setenv(name, "a secret of the server")
    assert "PATH" in environment() and not set(secrets) & set(environment())
    assert os.environ["UPRES_API_KEY"]
