"""Freed memory: kept on request, and only in processes of ours."""

import ast
import platform
import subprocess
import sys

import pytest
from paths import ROOT

from upres.engine.machine import freed_memory

SCRIPT = """
import resource, sys, threading
from upres.engine.machine.freed_memory import keep_freed_memory

def faults_of_a_thread():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=lambda: [bytearray(10 << 20) for _ in range(10)])
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "kept" in sys.argv:
    keep_freed_memory()
faults_of_a_thread()
print(faults_of_a_thread())
"""
PROGRAMS = {
    "engine/ranges/process.py": "main",
    "service/cli/run/videos.py": "file",
    "service/execution/attempt/remote_encoder.py": "with_memory",
}
"""The functions that call it: each belongs to one of our programs."""


def faults(*arguments):
    """Return the page faults of a second thread that uses 100 MB like a first one did."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide differently")
def test_a_thread_uses_the_memory_that_another_has_freed():
    assert faults("kept") < 1000 < 20_000 < faults()


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    freed_memory.keep_freed_memory()
    monkeypatch.setattr(freed_memory.sys, "platform", "win32")
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", None)
    freed_memory.keep_freed_memory()


def test_only_programs_keep_it_and_only_with_several_encoders():
    callers = {}
    for path in [*ROOT.glob("engine/**/*.py"), *ROOT.glob("service/**/*.py"), *ROOT.glob("export/**/*.py")]:
        tree = ast.parse(path.read_text())
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            for test in [node for node in ast.walk(function) if isinstance(node, ast.If)]:
                if any(ast.unparse(step) == "keep_freed_memory()" for step in test.body):
                    assert ast.unparse(test.test).endswith((".encoders > 1", "count > 1"))
                    callers[str(path.relative_to(ROOT))] = function.name
        if "keep_freed_memory()" in path.read_text() and path.name != "freed_memory.py":
            assert str(path.relative_to(ROOT)) in callers, f"{path} calls it without a condition"
    assert callers == PROGRAMS
