"""Location of pulled, exported and built files."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the folder of pulled and exported graphs and of engines: UPRES_CACHE, or the platform's cache folder."""
    return Path(os.environ.get("UPRES_CACHE") or platformdirs.user_cache_path("upres"))
