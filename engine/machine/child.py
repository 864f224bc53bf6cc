"""Queries that a broken driver may never answer: run in a separate process with a timeout."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from upres.engine.core.text import number

SECONDS = 15.0  # timeout of a query; an idle driver takes some seconds to wake up
KILL_SECONDS = 1.0  # timeout for a killed process to end; one that hangs inside the driver is abandoned


def ask(module: str, *arguments: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Run a module that prints a JSON object as its last line; return the object, or {"problem": reason} on failure."""
    return answer([sys.executable, "-m", module, *arguments], seconds)


def answer(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """Run a command that does so; like `ask`. Never raises, and never waits much longer than `seconds`."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return {"problem": f"it could not be asked: {error.strerror}"}
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=KILL_SECONDS)
        return {"problem": f"no answer within {number(seconds)} s"}
    if process.returncode:
        message = (err.strip().splitlines() or [""])[-1]
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        return {"problem": f"asking it ended with {how}{f' ({message})' if message else ''}"}
    return _parsed(out)


def _parsed(out: str) -> dict[str, Any]:
    try:
        result = json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        result = None
    return result if isinstance(result, dict) else {"problem": f"its answer is not understood: {out.strip()[-200:]!r}"}
