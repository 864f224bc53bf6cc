"""Where `upres` begins. Signals come first: what follows imports for half a second, and Ctrl-C may come then already."""

import os
import signal
import sys
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # as Interrupted's, which is not imported yet


def main() -> None:
    """Run the command line; every error ends in one message and its exit code."""
    for number in STOPS:
        signal.signal(number, _interrupt)
    try:
        from .root import follow

        follow(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("upres: interrupted\n")
        sys.exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop in an orderly way; a second signal, at once: the log is safe against that."""
    for other in STOPS:
        signal.signal(other, lambda number, frame: os._exit(INTERRUPTED))
    raise KeyboardInterrupt
