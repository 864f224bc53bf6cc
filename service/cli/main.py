"""The entry point of `upres`. Signals come first: Ctrl-C may come in the half second that the imports take."""

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
        sys.exit(signals.interrupted())
