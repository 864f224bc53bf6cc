"""Number of segments to encode concurrently: enough to keep up with the models, limited by CPU cores and memory."""

import math
from dataclasses import dataclass, replace

import psutil

from upres.engine.core.frame import Shape
from upres.engine.encode.codecs import NVENC, THREADS
from upres.engine.encode.encoder_memory import encoder_memory
from upres.engine.encode.options import Encoding
from upres.engine.encode.video import waiting_bytes
from upres.engine.runtime.base import cpus

# CPU time per output pixel at the preset `fast`, in nanoseconds: a value between those measured on two machines. Other presets take
# between a third and twice that time, which is close enough for choosing the number of encoders.
NANOSECONDS_PER_PIXEL = {"libx264": 50.0, "libx264rgb": 90.0, "libx265": 130.0}
NANOSECONDS_PER_PIXEL |= {"libsvtav1": 14.0, "libvpx-vp9": 80.0, "prores_ks": 55.0, "ffv1": 20.0}
# For NVENC: nanoseconds per pixel on one encoder engine, multiplied by THREADS, by which they are divided below. Estimated, not
# measured on a GPU.
NANOSECONDS_PER_PIXEL |= {"h264_nvenc": 4.0, "hevc_nvenc": 4.0}
# Number of CPU cores that one encoder keeps busy; THREADS for encoders not listed here.
ENCODER_CORES = {"libsvtav1": 1.2}
GPU_ENCODERS = 2  # concurrent encoders on a GPU: those with several encoder engines have at least two
SPARE_MEMORY_DIVISOR = 4  # all additional encoders together may use the remaining memory divided by this


@dataclass(frozen=True, slots=True)
class AnotherEncoder:
    """Cost of each additional encoder, and the maximum number of encoders.

    bytes: memory that each one uses, including the frames queued for it. frame_seconds: time that one encoder takes for a
    frame. most: maximum number of encoders, including the first.
    """

    bytes: int
    frame_seconds: float
    most: int

    def needed(self, model_seconds: float) -> int:
        """Return the number of encoders needed to keep up with models that take `model_seconds` per frame."""
        return max(1, min(self.most, math.ceil(self.frame_seconds / max(1e-9, model_seconds))))


def another_encoder(shape: Shape, encoding: Encoding, scale: int, frames: int | None = None) -> AnotherEncoder:
    """Return the cost of another encoder for a source of this shape. frames: in the whole result; None if unknown."""
    upscaled = replace(shape, width=shape.width * scale, height=shape.height * scale)
    size = encoder_memory(encoding, frames) + waiting_bytes(encoding, upscaled, 2)
    cores = ENCODER_CORES.get(encoding.library, THREADS)
    seconds = NANOSECONDS_PER_PIXEL[encoding.library] * encoding.width * encoding.height / cores * 1e-9
    by_segment = not encoding.encoder.live and encoding.encoder.fragment == "segment"
    most = GPU_ENCODERS if encoding.library in NVENC.values() else max(1, cpus() // math.ceil(cores))
    return AnotherEncoder(size, seconds, most if by_segment else 1)


def encoders_that_fit(another: AnotherEncoder, *, model_seconds: float, memory: int) -> int:
    """Return the number of encoders that keeps up with the models, as far as CPU cores and free memory allow.

    model_seconds: time that the models take per frame. memory: bytes that the run is predicted to use with one encoder.
    """
    spare = max(0, psutil.virtual_memory().available - memory) // SPARE_MEMORY_DIVISOR
    return min(another.needed(model_seconds), 1 + spare // another.bytes)
