"""Where `upres` begins. Signals come first: what follows imports for half a second, and Ctrl-C may come then already."""

import sys

from . import signals


def main() -> None:
    """Run the command line; every error ends in one message and its exit code."""
    signals.at_once()
    from .app import build, follow

    app = build()
    signals.orderly()
    try:
        follow(app, sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(signals.INTERRUPTED)
