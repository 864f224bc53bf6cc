"""How many segments are encoded at once: as many as it takes to keep up with the models, cores and memory allowing."""

import math
from dataclasses import dataclass, replace

import psutil

from upres.engine.core.frame import Shape
from upres.engine.encode.codecs import NVENC
from upres.engine.encode.encoder_memory import encoder_memory
from upres.engine.encode.options import THREADS, Encoding
from upres.engine.encode.video import waiting_bytes
from upres.engine.runtime.base import cpus

# CPU nanoseconds that a pixel of the result takes at the preset `fast`: between those of two machines. Other presets take a third
# to twice as much; so many encoders are near enough.
PIXEL_NANOSECONDS = {"libx264": 50.0, "libx264rgb": 90.0, "libx265": 130.0}
PIXEL_NANOSECONDS |= {"libsvtav1": 14.0, "libvpx-vp9": 80.0, "prores_ks": 55.0, "ffv1": 20.0}
# An engine of a GPU for one pixel, times the threads that another encoder would have; assumed, no GPU was measured.
PIXEL_NANOSECONDS |= {"h264_nvenc": 4.0, "hevc_nvenc": 4.0}
CORES = {"libsvtav1": 1.2}  # that one encoder keeps busy, where it is not THREADS
GPU_ENCODERS = 2  # at once: that many engines, or more, have those GPUs that have several
SPARE_PART = 4  # encoders beside the first may together take one part in so many of the memory that is left


@dataclass(frozen=True, slots=True)
class AnotherEncoder:
    """What an encoder beside the first takes, and when one is of use.

    bytes: that each takes, with the frames that wait for it. frame_seconds: that one encoder takes for a frame.
    most: of all encoders, the first included.
    """

    bytes: int
    frame_seconds: float
    most: int

    def wanted(self, model_seconds: float) -> int:
        """Count how many encoders it takes to keep up with models that take so long a frame."""
        return max(1, min(self.most, math.ceil(self.frame_seconds / max(1e-9, model_seconds))))


def another_encoder(shape: Shape, encoding: Encoding, scale: int, frames: int | None = None) -> AnotherEncoder:
    """Say what another encoder takes for a source of this shape. frames: of the whole result; None where that is unknown."""
    upscaled = replace(shape, width=shape.width * scale, height=shape.height * scale)
    size = encoder_memory(encoding, frames) + waiting_bytes(encoding, upscaled, 2)
    cores = CORES.get(encoding.library, THREADS)
    seconds = PIXEL_NANOSECONDS[encoding.library] * encoding.width * encoding.height / cores * 1e-9
    whole = not encoding.encoder.live and encoding.encoder.fragment == "segment"
    most = GPU_ENCODERS if encoding.library in NVENC.values() else max(1, cpus() // math.ceil(cores))
    return AnotherEncoder(size, seconds, most if whole else 1)


def encoders_that_fit(another: AnotherEncoder, *, model_seconds: float, memory: int) -> int:
    """Count the encoders that keep up with models which take so long a frame, as far as cores and free memory allow.

    memory: that the run is predicted to take with one encoder.
    """
    spare = max(0, psutil.virtual_memory().available - memory) // SPARE_PART
    return min(another.wanted(model_seconds), 1 + spare // another.bytes)
