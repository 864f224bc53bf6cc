"""Numeric references of the public implementation: inputs and results."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upres.engine.core.errors import ModelError
from upres.export.weights.tensors import Array


@dataclass(frozen=True, slots=True)
class Golden:
    """A numeric reference. frames: (F, H, W, 3) uint8, the low-quality video at output size. noise: (1, 16, n, H/8, W/8).

    expected: results by chunk and name: `c0.lq`, `c0.mask`, `c0.clean`, …; empty if PyTorch is the reference.
    """

    frames: Array
    noise: Array
    topk_ratio: float
    local_range: int
    expected: dict[str, Array]


def read_golden(path: Path) -> Golden:
    """Read a reference, whose frames pan over a still image by one row down and two columns right per frame."""
    try:
        with path.open("rb") as raw, np.load(raw) as file:  # NumPy does not close a file that it cannot read
            values = {key: file[key] for key in file.files}
        still, noise = values["pano_u8"], values["noise"]
        height, width = noise.shape[3] * 8, noise.shape[4] * 8
        count = still.shape[1] - height
        frames = np.stack([still[:, t : t + height, 2 * t : 2 * t + width].transpose(1, 2, 0) for t in range(count)])
        return Golden(frames, noise, float(values["topk_ratio"]), int(values["local_range"]), values)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is not a FlashVSR reference: {error}") from error


def read_heads(path: Path) -> int:
    """Read the number of attention heads from the JSON that describes the references' configuration."""
    try:
        return int(json.loads(path.read_text())["tiny"]["num_heads"])
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path} does not describe a FlashVSR configuration: {error}") from error
