"""Processes forked from one that has already imported their modules, for a hundredth of the CPU time of the imports.

Each has its own arguments, environment, working folder and files, like a program that is started normally. Tests run `upres` and
its server this way unless they test the start itself.
"""

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from functools import cache
from multiprocessing import forkserver
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import ModuleType

import pytest
from paths import SUPPORT

from upres.service.execution.sandbox.limits import die_with_parent

ENVIRONMENT = {
    "PYTHONPATH": str(SUPPORT),
    "OPENBLAS_NUM_THREADS": "1",  # NumPy would start threads, which a fork does not inherit
    "OMP_NUM_THREADS": "1",
}


@cache
def context():
    """Return the context that starts processes; the process they are forked from lives as long as this session."""
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["prepared_imports"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    return forking


class Prepared:
    """A running process with the interface of `subprocess.Popen`. function: `module:function`, the entry point."""

    def __init__(self, function, words, *, stdin, stdout, stderr, environment=None, folder="."):
        self.args = [*map(str, words)]
        environment = {**os.environ, **(environment or {})}
        arguments = Files(stdin, stdout, stderr), function, self.args, environment, str(Path(folder).resolve())
        self._process = context().Process(target=_run, args=arguments, daemon=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # otherwise it would import the test runner
            self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        """Return None while it runs; a negative value is the signal that ended it."""
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()


class Files:
    """Open files that are passed to the started process as its descriptors."""

    def __init__(self, *files):
        self._files = files

    def __reduce__(self):
        return _received, tuple(DupFd(file.fileno()) for file in self._files)


def _received(*sent):
    return [each.detach() for each in sent]


def _run(files, function, words, environment, folder):
    die_with_parent()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.argv = words
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)()


def upres(*words, stdin=None, text=False, timeout=120, **options):
    """Run a command of `upres` to its end, and return the same as `subprocess.run`. stdin: an open file."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "rb") as nothing:  # noqa: PTH123
        files = {"stdin": stdin or nothing, "stdout": out, "stderr": err}
        process = Prepared("upres.service.cli.main:main", ["upres", *words], **files, **options)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        written = [_read(file, text) for file in (out, err)]
    return subprocess.CompletedProcess(process.args, code, *written)


def _read(file, text):
    file.seek(0)
    return file.read().decode() if text else file.read()
