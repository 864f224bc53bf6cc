"""A real server process for tests: it reports its ports, dies with its parent, and can be made to die at a step.

Its settings are given as JSON; `constants` among them overrides values that are not settings, such as a period, by their names.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
from pathlib import Path

from upres.service.domain import job_logging
from upres.service.server import settings
from upres.service.server.process import serve


class DieAt:
    """Kills this process when a step is reached for the nth time after a file requests it as `step:n`."""

    def __init__(self, file):
        self._file = file
        self._fault = ""
        self._reached = 0

    def __call__(self, step):
        fault = self._file.read_text() if self._file.exists() else ""
        if fault != self._fault:
            self._fault, self._reached = fault, 0
        name, _, count = fault.rpartition(":")
        if step == name:
            self._reached += 1
            if self._reached == int(count):
                os.kill(os.getpid(), signal.SIGKILL)


def tell(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    values = json.loads(sys.argv[1])
    dies = DieAt(Path(values.pop("fault")))
    for name, value in values.pop("constants", {}).items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    loaded = settings.load(**values)
    job_logging.configure(loaded.log_format)
    asyncio.run(serve(loaded, tell, dies))
