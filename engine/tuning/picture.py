"""Reproducible test frame of any size: noise with the spectrum of natural images, and edges."""

import numpy as np

from upres.engine.core.frame import Pixels

SEED = 7


def picture(width: int, height: int) -> Pixels:
    """Return a frame, RGB of shape (height, width, 3), whose amplitudes fall as 1/frequency, as in photographs."""
    rng = np.random.default_rng(SEED)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(down, across), 1 / max(width, height))
    channels = []
    for _ in range(3):
        phases = np.exp(2j * np.pi * rng.random((height, width // 2 + 1)))
        plane = np.fft.irfft2(amplitude * phases, (height, width))
        channels.append(128 + 48 * (plane - plane.mean()) / (plane.std() or 1))
    pixels = np.stack(channels, axis=-1)
    pixels[height // 3 : height // 2, width // 4 : width // 2] += 60  # a box with hard edges
    pixels[np.indices((height, width)).sum(axis=0) % 64 < 2] -= 60  # thin diagonals
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)
