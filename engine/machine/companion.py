"""Programs that work for this process and do not outlive it, however it ends."""

import os
import sys
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import IO

LINE_BYTES = 4096  # of what a program says

# Between fork and exec, Python code may hang where other threads run, so a small process of its own makes the tie and becomes
# the program. It ties to the thread that starts it (prctl(2), PR_SET_PDEATHSIG), which must live as long as the program is needed.
TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def tied(command: Sequence[str]) -> list[str]:
    """Give the command that runs this one so that it is killed when this process dies; on Linux only, elsewhere itself.

    command: the program by its path, and its arguments. To be started by a thread that lives as long as it does.
    """
    if sys.platform != "linux":
        return [*command]
    return [sys.executable, "-I", "-S", "-c", TIE, str(os.getpid()), *command]


def last_line(errors: IO[bytes], said: deque[bytes]) -> None:
    """Read what a program says to its end, and close it. said: of one place, keeps the last line, cut where it is long."""
    with errors:
        said.extend(iter(partial(errors.readline, LINE_BYTES), b""))
