"""Number of segments to encode concurrently: enough to keep up with the models, limited by CPU cores and memory."""

import math
from dataclasses import dataclass, replace

import psutil

from upres.engine.core.frame import Shape
from upres.engine.encode.codecs import NVENC
from upres.engine.encode.encoder_memory import encoder_memory
from upres.engine.encode.options import THREADS, Encoding
from upres.engine.encode.video import waiting_bytes
from upres.engine.runtime.base import cpus

# CPU time per output pixel at the preset `fast`, in nanoseconds: a value between those of two machines. Other presets take a third
# to twice as much, which is accurate enough to choose the number of encoders.
PIXEL_NANOSECONDS = {"libx264": 50.0, "libx264rgb": 90.0, "libx265": 130.0}
PIXEL_NANOSECONDS |= {"libsvtav1": 14.0, "libvpx-vp9": 80.0, "prores_ks": 55.0, "ffv1": 20.0}
# Nanoseconds per pixel on one of a GPU's encoder engines, times the THREADS it is divided by below. Assumed; no GPU was measured.
PIXEL_NANOSECONDS |= {"h264_nvenc": 4.0, "hevc_nvenc": 4.0}
CORES = {"libsvtav1": 1.2}  # CPU cores that one encoder keeps busy, if not THREADS
GPU_ENCODERS = 2  # concurrent encoders on a GPU: those with several encoder engines have at least two
SPARE_PART = 4  # additional encoders may together use 1/SPARE_PART of the remaining memory


@dataclass(frozen=True, slots=True)
class AnotherEncoder:
    """Cost of each additional encoder, and how many are useful.

    bytes: memory that each one uses, including the frames that wait for it. frame_seconds: time that one encoder takes for a
    frame. most: upper limit on the number of encoders, including the first.
    """

    bytes: int
    frame_seconds: float
    most: int

    def needed(self, model_seconds: float) -> int:
        """Return how many encoders it takes to keep up with models that take `model_seconds` per frame."""
        return max(1, min(self.most, math.ceil(self.frame_seconds / max(1e-9, model_seconds))))


def another_encoder(shape: Shape, encoding: Encoding, scale: int, frames: int | None = None) -> AnotherEncoder:
    """Return the cost of another encoder for a source of this shape. frames: in the whole result; None if unknown."""
    upscaled = replace(shape, width=shape.width * scale, height=shape.height * scale)
    size = encoder_memory(encoding, frames) + waiting_bytes(encoding, upscaled, 2)
    cores = CORES.get(encoding.library, THREADS)
    seconds = PIXEL_NANOSECONDS[encoding.library] * encoding.width * encoding.height / cores * 1e-9
    whole = not encoding.encoder.live and encoding.encoder.fragment == "segment"
    most = GPU_ENCODERS if encoding.library in NVENC.values() else max(1, cpus() // math.ceil(cores))
    return AnotherEncoder(size, seconds, most if whole else 1)


def encoders_that_fit(another: AnotherEncoder, *, model_seconds: float, memory: int) -> int:
    """Return how many encoders to run to keep up with the models, as far as CPU cores and free memory allow.

    model_seconds: time that the models take per frame. memory: bytes that the run is predicted to use with one encoder.
    """
    spare = max(0, psutil.virtual_memory().available - memory) // SPARE_PART
    return min(another.needed(model_seconds), 1 + spare // another.bytes)
