"""Measure what B-frames would save: the size of upscaled clips with and without them at equal PSNR, in segments of two seconds.

`python bench/b_frames.py CLIP …` upscales the first seconds of each clip losslessly, encodes the result as a file job does and also
with three B-frames, and writes sizes, PSNR and the ratio of sizes at equal PSNR as JSON.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import imageio_ffmpeg
import numpy as np

CRF = (16, 18, 20, 22)
MEAN = re.compile(r"average:([\d.]+)")


def main() -> None:
    """Measure every clip and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each clip")
    parser.add_argument("--model", default="x2")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {clip.name: measure(clip, Path(folder), options.model, options.seconds) for clip in options.clips}
    for name, result in results.items():
        sys.stdout.write(f"{name}: {result['size_ratio']:.3f} of the size at equal PSNR\n")
    sys.stdout.write(f"median: {median(result['size_ratio'] for result in results.values()):.3f}\n")
    if options.out:
        options.out.write_text(
            json.dumps({"seconds": options.seconds, "model": options.model, "clips": results}, indent=1)
        )


def measure(clip: Path, folder: Path, model: str, seconds: float) -> dict[str, object]:
    """Upscale a clip losslessly, encode it at several qualities with and without B-frames, and compare the sizes."""
    upscaled = folder / f"{clip.stem}.mkv"
    upres = [Path(sys.executable).parent / "upres", clip, upscaled, "--lossless", "--model", model, "--quiet", "-y"]
    subprocess.run([*upres, "--duration", str(seconds), "--overwrite"], check=True, timeout=3600)
    points = {bframes: [encode(upscaled, folder, crf, bframes) for crf in CRF] for bframes in (0, 3)}
    middle = float(np.mean([psnr for _, psnr in points[0]]))
    return {"points": points, "size_ratio": at_psnr(points[3], middle) / at_psnr(points[0], middle)}


def encode(source: Path, folder: Path, crf: int, bframes: int) -> tuple[int, float]:
    """Encode a video; returns its size in bytes and the mean PSNR of its luma and chroma, in dB."""
    target = folder / "out.mp4"
    cuts = ["-force_key_frames", "expr:gte(t,n_forced*2)", "-g", "9999", "-sc_threshold", "0"]
    quality = ["-c:v", "libx264", "-preset", "fast", "-crf", str(crf), "-bf", str(bframes), "-pix_fmt", "yuv420p"]
    ffmpeg("-i", source, "-an", *quality, *cuts, target)
    log = ffmpeg("-i", target, "-i", source, "-lavfi", "[1]format=yuv420p[a];[0][a]psnr", "-f", "null", "-")
    return target.stat().st_size, float(MEAN.findall(log)[-1])


def at_psnr(points: list[tuple[int, float]], psnr: float) -> float:
    """Return the size in bytes at a PSNR, from a linear fit of log size over PSNR."""
    sizes, reached = np.array(points).T
    return float(np.exp(np.polyval(np.polyfit(reached, np.log(sizes), 1), psnr)))


def ffmpeg(*options: object) -> str:
    """Run ffmpeg and return its log."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-y", *map(str, options)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600).stderr


if __name__ == "__main__":
    main()
