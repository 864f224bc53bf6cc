"""Frames for FlashVSR's sessions, and their upscaling."""

import numpy as np

from upres.engine.core.frame import Frame


def clip(count, width=32, height=32, *, shots=()):
    """Return frames of a coarse, moving random texture with irregular timestamps."""
    texture = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    at = [t % 100 for t in range(count)]
    return [
        Frame(texture[a : a + height, 2 * a : 2 * a + width], 7 * t + t % 3, 7 + t % 2, t in shots)
        for t, a in enumerate(at)
    ]


def upscale(model, frames, **options):
    session = model.open(frames[0].width, frames[0].height, **options)
    out = [result for frame in frames for result in session.push(frame)]
    out += session.flush()
    session.close()
    return out


def stack(frames):
    return np.stack([frame.pixels for frame in frames]).astype(int)
