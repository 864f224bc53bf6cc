"""NVENC and NVDEC: support in PyAV's FFmpeg, and whether the driver can open them."""

from dataclasses import dataclass

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
    found = ask(probe)
    encoder, decoder = (found.get(name, {}) for name in ("nvenc", "nvdec"))
    return (
        VideoEngine("NVENC", tuple(encoder.get("built_in", ())), encoder.get("problem", found.get("problem"))),
        VideoEngine("NVDEC", tuple(decoder.get("built_in", ())), decoder.get("problem", found.get("problem"))),
    )
