"""The entry point of `upres`. Signal handlers come first, since Ctrl-C may arrive in the half second that the imports take."""

import sys

from . import signals


def main() -> None:
    """Run the command line; every error is reported as one message and ends the process with its exit code."""
    signals.exit_on_signals()
    from .app import build, execute

    app = build()
    signals.interrupt_on_signals()
    try:
        execute(app, sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(signals.report_interrupted())
