"""One archive from PyPI by pip, which checks its hash. Nothing of it is installed."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from upres.engine.core.errors import SourceError

PIP_SECONDS = 600


def pip_download(requirement: str, place: Path, options: Sequence[str] = ()) -> Path:
    """Download a package's archive, without what it depends on, into a folder that holds nothing else; it is made.

    Raises SourceError where pip cannot.
    """
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    try:
        result = subprocess.run(
            [*command, *options, f"--dest={place}", requirement], capture_output=True, text=True, timeout=PIP_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"pip cannot be run: {error}") from error
    if result.returncode:
        raise SourceError(f"pip could not fetch it: {(result.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    archives = sorted(place.iterdir())
    if len(archives) != 1:
        raise SourceError(f"pip left {len(archives)} files for {requirement}, not one archive")
    return archives[0]
