"""Helper programs of this process that do not outlive it, however it ends."""

import os
import sys
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import IO

LINE_BYTES = 4096  # limit on a line of a program's output

# Python code between fork and exec may deadlock if other threads run, so a small separate process ties itself and then becomes the
# program. It is tied to the thread that starts it (prctl(2), PR_SET_PDEATHSIG), which must live as long as the program is needed.
TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that runs this one so that it is killed when this process dies; outside Linux, the command itself.

    command: the program's path and its arguments. It must be started by a thread that lives as long as the program is needed.
    """
    if sys.platform != "linux":
        return [*command]
    return [sys.executable, "-I", "-S", "-c", TIE, str(os.getpid()), *command]


def last_line(errors: IO[bytes], lines: deque[bytes]) -> None:
    """Read a program's output to the end, and close it. lines: with a maximum length of one, it keeps the last line."""
    with errors:
        lines.extend(iter(partial(errors.readline, LINE_BYTES), b""))
