"""NVENC and NVDEC: support in PyAV's FFmpeg, and whether the driver can open them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from av.codec.hwaccel import HWAccel

from upres.engine.core.errors import SettingsError

from .child import ask

PROBE = f"{__package__}.video_engines_process"


@dataclass(frozen=True, slots=True)
class VideoEngine:
    """NVENC or NVDEC. built_in: FFmpeg's names of it; empty if it was built without, None if this could not be tested.

    problem: why it cannot be opened.
    """

    name: str
    built_in: tuple[str, ...] | None
    problem: str | None


def video_engines(probe: str = PROBE) -> tuple[VideoEngine, VideoEngine]:
    """Try to open NVENC and NVDEC in a separate process. Never raises, and waits a bounded time."""
    report = ask(probe)
    return _engine("NVENC", report), _engine("NVDEC", report)


def _engine(name: str, report: dict[str, Any]) -> VideoEngine:
    tested = report.get(name.lower())
    if tested is None:
        return VideoEngine(name, None, report.get("problem"))
    return VideoEngine(name, tuple(tested["built_in"]), tested["problem"])


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
