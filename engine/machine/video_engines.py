"""NVENC and NVDEC: support in PyAV's FFmpeg, and whether the driver can open them."""

from dataclasses import dataclass
from functools import cache

from av.codec.hwaccel import HWAccel

from upres.engine.core.errors import SettingsError

from .child import ask

PROBE = f"{__package__}.video_engines_process"


@dataclass(frozen=True, slots=True)
class VideoEngine:
    """NVENC or NVDEC. built_in: FFmpeg's names of it; empty if it was built without. problem: why it cannot be opened."""

    name: str
    built_in: tuple[str, ...]
    problem: str | None


def video_engines(probe: str = PROBE) -> tuple[VideoEngine, VideoEngine]:
    """Try to open NVENC and NVDEC in a separate process. Never raises, and waits a bounded time."""
    report = ask(probe)
    encoder, decoder = (report.get(name, {}) for name in ("nvenc", "nvdec"))
    return (
        VideoEngine("NVENC", tuple(encoder.get("built_in", ())), encoder.get("problem", report.get("problem"))),
        VideoEngine("NVDEC", tuple(decoder.get("built_in", ())), decoder.get("problem", report.get("problem"))),
    )


def nvdec() -> HWAccel:
    """Return NVDEC as an argument for `av.open`, which leaves to the CPU what it does not decode.

    Raises SettingsError if it does not open, which is tried once, in a separate process.
    """
    if problem := _nvdec_problem():
        raise SettingsError(
            f"NVDEC does not open here: {problem}; without `nvdec` the CPU decodes, and `upres doctor` says what is missing"
        )
    return HWAccel("cuda", allow_software_fallback=True)


@cache
def _nvdec_problem() -> str | None:
    return video_engines()[1].problem
