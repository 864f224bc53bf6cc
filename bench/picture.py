"""Create the picture at the top of README: a detail of the sample clip, before on the left and after on the right."""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

SECOND = "2"
DETAIL = (80, 0, 240, 130)  # left, top, right, bottom in pixels of the 320x180 source


def main(clip: Path, target: Path) -> None:
    """Upscale one frame with `upres --still` and crop the detail of both halves at full size."""
    with tempfile.TemporaryDirectory() as folder:
        still = Path(folder) / "still.png"
        upres = Path(sys.executable).with_name("upres")
        subprocess.run([upres, clip, still, "--still", SECOND], check=True, timeout=120)
        both = Image.open(still)
        both.load()
    middle = both.width // 2
    left, top, right, bottom = (4 * side for side in DETAIL)
    width, height = right - left, bottom - top
    picture = Image.new("RGB", (2 * width, height))
    for column, start in enumerate((0, middle)):
        picture.paste(both.crop((start + left, top, start + right, bottom)), (column * width, 0))
    picture.save(target, quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
