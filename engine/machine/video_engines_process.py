"""Process that opens NVENC and NVDEC once through PyAV, and prints the result as a line of JSON."""

import io
import json
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from .nvidia_process import LIBRARIES, NO_DRIVER, library

ENCODERS = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
SIDE = 256  # width and height in pixels; NVENC rejects sizes below about 145


def main() -> None:
    """Print, for both, what is built in and the problem, if any."""
    encoders = [name for name in ENCODERS if name in av.codecs_available]
    devices = [name for name in hwdevices_available() if name == "cuda"]
    report = {"nvenc": _look(encoders, _open_encoder), "nvdec": _look(devices, _open_decoder)}
    sys.stdout.write(json.dumps(report) + "\n")


def _look(built_in: list[str], attempt: Callable[[str], None]) -> dict[str, Any]:
    if not built_in:
        return {"built_in": [], "problem": "this PyAV's FFmpeg was built without it"}
    try:
        attempt(built_in[0])
    except Exception as error:  # from FFmpeg, the driver or the codec: reported as the problem
        failure = f"the driver does not open it ({getattr(error, 'strerror', None) or error})"
        return {"built_in": built_in, "problem": NO_DRIVER if library(LIBRARIES[0]) is None else failure}
    return {"built_in": built_in, "problem": None}


def _open_encoder(name: str) -> None:
    """Encode one frame, because some drivers only fail then."""
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.width = encoder.height = SIDE
    encoder.pix_fmt, encoder.time_base = "nv12", Fraction(1, 25)
    frame = av.VideoFrame(SIDE, SIDE, "nv12")
    frame.pts = 0
    encoder.encode(frame)
    encoder.encode(None)


def _open_decoder(device: str) -> None:
    """Decode one frame. Raises ValueError if only the CPU decodes it."""
    accelerator = HWAccel(device, allow_software_fallback=False)
    with av.open(_clip(), "r", hwaccel=accelerator) as container:
        frame = next(container.decode(video=0))
        if frame.format.name != "nv12":
            raise ValueError(f"it decodes H.264 to {frame.format.name} instead of nv12")


def _clip() -> io.BytesIO:
    """Return a file with one frame of H.264."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width = stream.height = SIDE
        container.mux([*stream.encode(av.VideoFrame(SIDE, SIDE, "yuv420p")), *stream.encode(None)])
    file.seek(0)
    return file


if __name__ == "__main__":
    main()
