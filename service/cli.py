"""Where `upres` begins. Signals come first: what follows imports for half a second, and Ctrl-C may come then already."""

import sys

from . import stops


def main() -> None:
    """Run the command line; every error ends in one message and its exit code."""
    stops.at_once()
    from .root import build, follow

    app = build()
    stops.orderly()
    try:
        follow(app, sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(stops.INTERRUPTED)
