"""Where what was pulled, exported or built is kept."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Get the folder of pulled and exported graphs, and of engines: UPRES_CACHE, else the platform's cache folder."""
    return Path(os.environ.get("UPRES_CACHE") or platformdirs.user_cache_path("upres"))
