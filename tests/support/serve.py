"""A real server process for tests: it tells its ports as JSON, dies with its parent, and can be told to die at a step."""

import asyncio
import json
import os
import signal
import sys

from upres.service.domain import job_logging
from upres.service.execution.sandbox.limits import die_with_parent
from upres.service.server import settings
from upres.service.server.app import serve


class DieAt:
    """Kills this process when a step is reached for the nth time: `step:n`."""

    def __init__(self, fault):
        self.step, _, count = fault.rpartition(":")
        self.left = int(count or 0)

    def __call__(self, step):
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def tell(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    die_with_parent()
    values = json.loads(sys.argv[1])
    fault = values.pop("fault", "")
    loaded = settings.load(**values)
    job_logging.configure(loaded.log_format)
    asyncio.run(serve(loaded, tell, DieAt(fault)))
