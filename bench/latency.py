"""Measure latency of live runs: python bench/latency.py CLIP [RESULTS.json] [--sizes 128x72 960x540] [--seconds 20].

Frames with their number in the picture are sent at the clip's rate through each of DOORS, and the numbers are read in the result.
The lateness of a frame is the time from when it was due until its last byte has arrived; the added latency is that minus the
inference time of the network alone. Frames count from SETTLE_SECONDS after the first result on: before that, models are loaded and
the backlog is processed. An LL-HLS player stays three parts behind. RTSP to SRT needs GStreamer's RTSP server and the system's
ffmpeg with SRT.

The final table states whether the guarantees were met: beyond inference, no frame is later than three frame intervals of the source
(LL-HLS: three parts; RTSP to SRT: plus the frame that RTSP holds back and SRT's receiver delay), and sound is within 40 ms of its
picture. The measurement takes five minutes.
"""

import argparse
import io
import os
import sys
import time
from bisect import bisect_left
from fractions import Fraction
from pathlib import Path
from statistics import quantiles
from typing import Any

import av
import in_step
import live
import numpy as np
import stamps
from doors import DOORS, SLUG, Recording

from service import serving
from upres.engine.core.frame import Frame
from upres.engine.core.model import Model
from upres.engine.models.registry import load
from upres.engine.pipeline.keep_up import MAX_LATE_INTERVALS
from upres.export.measurements import record

SETTLE_SECONDS = 2.0
LAST = 5  # last frames that do not count: some interfaces return a frame only after the next has arrived
MAX_SOUND_OFFSET_MS = 40.0  # allowed offset of sound from its picture
COLUMNS = (
    "door",
    "size",
    "fps",
    "dropped",
    "added p50",
    "p95",
    "p99",
    "oldest",
    "of at most",
    "kept",
    "sound, ms",
    "kept",
)
ROUNDS = 25  # measurements of the network alone


def main() -> None:
    """Measure every size through every interface, print a line for each, and optionally write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument(
        "--sizes", nargs="+", default=["128x72", "960x540"], help="WIDTHxHEIGHT, both multiples of 24 or 8"
    )
    parser.add_argument("--doors", nargs="+", default=[*DOORS], help=f"of {', '.join(DOORS)}")
    parser.add_argument("--seconds", type=float, default=20.0, help="of source; at most 4096 frames")
    options = parser.parse_args()
    model, _ = load(SLUG, content="live")
    rows = list[tuple[str, ...]]()
    with serving() as server:
        for size in options.sizes:
            width, height = map(int, size.split("x"))
            frames, rate = live.scaled(options.clip, width, height)
            count = int(options.seconds * rate)
            numbered = (stamps.stamped(frames[number % len(frames)], number) for number in range(count))
            stamped = list(numbered)
            inference_seconds = inference(model, width, height)
            for name in options.doors:
                door = DOORS[name]
                paced = live.Paced(live.in_pieces(stamped, rate, door.container, sound=door.container == "mp4"), rate)
                conditions = {"load": round(os.getloadavg()[0], 1), "frames_a_second": float(rate)}
                result = (
                    conditions
                    | {"inference_ms": round(1000 * inference_seconds, 1)}
                    | figures(
                        door.send(server, paced),
                        paced,
                        rate,
                        inference_seconds,
                        allowed=door.most_intervals(float(rate)),
                    )
                )
                rows.append(row(name, size, result))
                sys.stdout.write(f"{name}, {size}: {result}\n")
                if options.results:
                    record(options.results, f"{name}, {size}", result)
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    for line in (COLUMNS, *rows):
        sys.stdout.write("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() + "\n")


def row(name: str, size: str, result: dict[str, Any]) -> tuple[str, ...]:
    """Format a result as a row of COLUMNS; added latency is in frame intervals."""
    if "problem" in result:
        return (name, size, *["?"] * (len(COLUMNS) - 3), result["problem"])
    added, oldest, allowed, sound_offset = (
        result[key] for key in ("added_intervals", "oldest_intervals", "most_intervals", "sound_ms")
    )
    figures = [result["fps"], result["dropped"], added["p50"], added["p95"], added["p99"], oldest, allowed]
    on_time = "yes" if oldest <= allowed else f"no, {result['older']} of {result['counted'] - result['dropped']}"
    sound = ("none", "")
    if sound_offset is not None:
        sound = (str(sound_offset), "yes" if sound_offset <= MAX_SOUND_OFFSET_MS else "no")
    return (name, size, *map(str, figures), on_time, *sound)


def inference(model: Model, width: int, height: int) -> float:
    """Measure the network alone for a frame, in seconds: the minimum, so that other load is not attributed to the network."""
    session, durations = model.open(width, height), []
    random = np.random.default_rng(0)
    for number in range(ROUNDS):
        frame = Frame(random.integers(0, 256, (height, width, 3), np.uint8), number, 1)
        start = time.perf_counter()
        list(session.push(frame))
        durations.append(time.perf_counter() - start)
    session.close()
    return min(durations)


def figures(
    recording: Recording,
    paced: live.Paced,
    rate: Fraction,
    inference_seconds: float,
    *,
    allowed: float = MAX_LATE_INTERVALS,
) -> dict[str, Any]:
    """Compute the lateness, in milliseconds and in frame intervals, and the number of dropped frames.

    inference_seconds: of the network alone. allowed: lateness in frame intervals.
    """
    sent, (numbers, times, shown) = len(paced.sent), _read(recording)
    counted = [
        (number, at)
        for number, at in zip(numbers, times, strict=True)
        if number is not None and number < sent - LAST and paced.due(number) > times[0] + SETTLE_SECONDS
    ]
    result: dict[str, Any] = {"sent": sent, "came": len(numbers), "unreadable": numbers.count(None)}
    source_times = in_step.picture_times(paced.data)
    pictures = [
        (source_times[number], at)
        for number, at in zip(numbers, shown, strict=True)
        if number is not None and number < len(source_times)
    ]
    start = next((seconds for track, seconds in recording.starts.items() if track != "video"), None)
    sound = bytes(recording.sound or recording.data)
    result["sound_ms"] = in_step.milliseconds_apart(paced.data, sound, pictures, start=start)
    result["to_first_s"] = round(times[0] - paced.due(0), 2)
    if len(counted) < 2:
        return result | {"problem": "it took too long to start; send for longer, with --seconds"}
    due = [number for number in range(sent - LAST) if paced.due(number) > times[0] + SETTLE_SECONDS]
    late = [at - paced.due(number) for number, at in counted]
    added = [float((seconds - inference_seconds) * rate) for seconds in late]
    span = counted[-1][1] - counted[0][1]
    result |= {"counted": len(due), "dropped": len(due) - len(counted), "fps": round((len(counted) - 1) / span, 2)}
    return result | {
        "late_ms": _percentiles([1000 * seconds for seconds in late]),
        "added_intervals": _percentiles(added),
        "oldest_intervals": round(max(added), 2),
        "most_intervals": round(allowed, 2),
        "older": sum(intervals > allowed for intervals in added),
    }


def _read(recording: Recording) -> tuple[list[int | None], list[float], list[float]]:
    """Read of each received frame the number in it, the arrival time of its last byte, and its timestamp, in seconds."""
    numbers, times, shown = list[int | None](), list[float](), list[float]()
    with av.open(io.BytesIO(recording.data), options=in_step.RAW if recording.starts else {}) as file:
        for packet in file.demux(video=0):
            if packet.size and packet.pos is not None:
                end = min(packet.pos + round(packet.size * recording.share), recording.ends[-1])
                times.append(recording.times[bisect_left(recording.ends, end)])
            for frame in packet.decode():
                numbers.append(stamps.read(frame))
                shown.append(float((frame.pts or 0) * packet.time_base) + recording.starts.get("video", 0.0))
    return numbers, times, shown


def _percentiles(values: list[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100, method="inclusive")
    return {f"p{each}": round(cuts[each - 1], 2) for each in (50, 95, 99)}


if __name__ == "__main__":
    main()
