"""An independent referee: what ffprobe says of a file."""

import json
import subprocess


def packets(path, stream="v:0"):
    """Presentation times of a stream's packets, in seconds, in order of time."""
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        stream,
        "-show_entries",
        "packet=pts_time",
        "-of",
        "json",
        str(path),
    ]
    found = json.loads(subprocess.run(command, check=True, timeout=60, capture_output=True).stdout)
    return sorted(float(packet["pts_time"]) for packet in found["packets"])


def count(path, stream="v:0"):
    """Packets of a stream; some containers do not stamp each."""
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        stream,
        "-show_entries",
        "packet=size",
        "-of",
        "json",
        str(path),
    ]
    return len(json.loads(subprocess.run(command, check=True, timeout=60, capture_output=True).stdout)["packets"])


def size(path):
    """Width and height of the picture."""
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-show_entries",
        "stream=width,height",
        "-of",
        "json",
        str(path),
    ]
    stream = json.loads(subprocess.run(command, check=True, timeout=60, capture_output=True).stdout)["streams"][0]
    return stream["width"], stream["height"]
