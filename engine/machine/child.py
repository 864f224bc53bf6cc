"""A question that a broken driver may never answer: asked in a process of its own, which is given up after a while."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from upres.engine.core.text import number

SECONDS = 15.0  # for an answer; a driver that has been idle takes some to wake up
KILL_SECONDS = 1.0  # for a killed process to be gone; one that hangs inside the driver cannot be killed, and is left


def ask(module: str, *arguments: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Run a module that prints a JSON object as its last line; return the object, or {"problem": why there is none}."""
    return answer([sys.executable, "-m", module, *arguments], seconds)


def answer(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """Run any command that does so; as `ask`. Never raises, and never waits much longer than `seconds`."""
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
        said = (err.strip().splitlines() or [""])[-1]
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        return {"problem": f"asking it ended with {how}{f' ({said})' if said else ''}"}
    return _parsed(out)


def _parsed(out: str) -> dict[str, Any]:
    try:
        found = json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        found = None
    return found if isinstance(found, dict) else {"problem": f"its answer is not understood: {out.strip()[-200:]!r}"}
