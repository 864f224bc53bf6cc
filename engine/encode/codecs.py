"""Table of the result's codecs, and the encoder options that would break the log's rules.

The segments of a log are encoded independently, several at a time, or again after an interruption, always to the same bytes. An
encoder must therefore not reorder frames, must start each segment with a keyframe that no later frame refers past, and must give
the same output regardless of the machine's load.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not imported at run time, because the command line's help lists the codecs and must not load NumPy
    from upres.engine.core.frame import Light

Options = tuple[tuple[str, str], ...]  # names and values, in FFmpeg's terms
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True, slots=True)
class CodecFacts:
    """Properties of a codec.

    library: FFmpeg's name of the encoder. containers: those that support the codec, in libavformat's names.
    pixel_format: default. deep_format: default for more than 8 bits per channel; None if these are not supported.
    odd_format: default for odd frame sizes if `pixel_format` does not support them.
    crf: default; None if the encoder has no constant quality. worst: the largest crf.
    preset: the encoder's option for presets, and its value for each of PRESETS. options: always set.
    params: the option that holds the library's native options. prompt: whether it can encode frame by frame without delay.
    container: in which its segments are written. bits: bits per pixel of clean upscaled video at the default quality, rounded up.
    """

    library: str
    containers: tuple[str, ...]
    pixel_format: str
    deep_format: str | None
    crf: int | None = None
    worst: int = 51
    preset: tuple[str, tuple[str, ...]] | None = None
    options: tuple[tuple[str, str], ...] = ()
    params: str | None = None
    prompt: bool = False
    container: str = "mp4"
    odd_format: str | None = None
    bits: float = 0.25


EVERY = ("mp4", "mov", "matroska")
MATROSKA = ("matroska", "webm")  # WebM is a subset of Matroska
CODECS = {
    "h264": CodecFacts(
        *("libx264", EVERY, "yuv420p", "yuv420p10le", 18, 51, ("preset", PRESETS)), params="x264-params", prompt=True
    ),
    "hevc": CodecFacts(
        *("libx265", EVERY, "yuv420p", "yuv420p10le", 18, 51, ("preset", PRESETS)), params="x265-params", prompt=True
    ),
    "av1": CodecFacts(
        "libsvtav1",
        ("mp4", *MATROSKA),
        "yuv420p",
        "yuv420p10le",
        30,
        63,
        ("preset", ("12", "11", "10", "9", "8", "6", "4", "3", "2")),
        params="svtav1-params",
    ),
    "vp9": CodecFacts(
        "libvpx-vp9",
        ("mp4", *MATROSKA),
        "yuv420p",
        None,
        31,
        63,
        ("cpu-used", ("8", "7", "6", "5", "4", "3", "2", "1", "0")),
        (("b", "0"), ("deadline", "good"), ("row-mt", "1"), ("auto-alt-ref", "0"), ("lag-in-frames", "0")),
        odd_format="yuv444p",
    ),
    "prores": CodecFacts("prores_ks", ("mov", "matroska"), "yuv422p10le", "yuv422p10le", container="mov", bits=4.0),
    "ffv1": CodecFacts(
        *("ffv1", ("matroska",), "yuv444p", "yuv444p10le"),
        options=(("level", "3"), ("slices", "4"), ("slicecrc", "1")),
        bits=12.0,
    ),
}

CAPTIONED = ("libx264", "libx264rgb", "libx265", "h264_nvenc", "hevc_nvenc")
"""Encoders whose packets can hold closed captions, written by the encoder itself or added afterwards."""
PARAMS = frozenset(facts.params for facts in CODECS.values() if facts.params)
"""The options that hold a library's native options."""
THREADS = 4  # fixed, so that the same frames and settings give the same bytes
# Each packet of AV1 shows exactly one frame, even with reordered references, so random access is used: low delay gives files larger
# by a third and sometimes hangs (SVT-AV1 4.1), as do several threads per stage (lp > 1, with the same output). Groups of
# four frames need a quarter of the memory of the default, at the same file size.
SVT = "pred-struct=2:hierarchical-levels=2:scd=0:lp=1"
X265 = "log-level=none:bframes=0:repeat-headers=0:keyint=-1:scenecut=0:open-gop=0:"
X265 += f"pools={THREADS}:frame-threads=1:info=0"
X265_CAPTIONS = ("a53cc", "1")  # libx264 writes captions by default
# The look-ahead of libx264 and libx265 works on blocks of 16 pixels and weights them by how later frames depend on them (mbtree,
# cuTree), 8 blocks at a time. If a row is not a multiple of 8 blocks, x264's AVX-512 code reads blocks after the row, which for
# the last row is memory left by earlier encoders, and x265 writes past its buffer. For such widths x264 is therefore used without
# AVX-512, and x265 without cuTree. Without AVX-512, x264 gives the same bytes as on a CPU that does not have it.
TREE_STEP = 8 * 16
# X264's names; all are present on CPUs with AVX-512.
BEFORE_AVX512 = "MMX2,SSE2,SSSE3,SSE4,AVX,FMA3,LZCNT,BMI1,BMI2,AVX2"

NVENC = {"h264": "h264_nvenc", "hevc": "hevc_nvenc"}
"""The encoders of NVIDIA GPUs, by codec. They accept 8-bit 4:2:0 from the host; crf is their target quality, from 1 on."""
NVENC_FORMAT = "yuv420p"
NVENC_MOST = {"h264": 4096, "hevc": 8192}
"""Maximum side length in pixels, supported by every GPU since 2016 (NVIDIA, NVENC Application Note)."""
# Options on which `nvenc_options` relies.
NVENC_OURS = ("rc", "qp", "b", "tune", "zerolatency", "delay", "rc-lookahead")
NVENC_PRESETS = dict(zip(PRESETS, ("p1", "p1", "p2", "p3", "p4", "p4", "p5", "p6", "p7"), strict=True))


def common_options(preset: str, *, prompt: bool) -> Options:
    """Return the options for libx264 and libx265 of any quality. prompt: encode frame by frame without delay."""
    return (
        *(("bf", "0"), ("flags", "+frame_duration"), ("threads", str(THREADS)), ("preset", preset)),
        *((("tune", "zerolatency"), ("forced-idr", "1")) if prompt else ()),
    )


def x264_options(light: "Light | None", width: int, own: Sequence[str], required: Sequence[str]) -> Options:
    """Return libx264's native options, if any. own: the user's, which come before `required`. width: of the frames."""
    instructions = (f"asm={BEFORE_AVX512}",) if not _fits_tree(width) and _has_avx512() else ()
    parameters = ":".join((*own, *required, *light_parameters(light, "libx264"), *instructions))
    return (("x264-params", parameters),) if parameters else ()


def x265_options(light: "Light | None", width: int, own: Sequence[str], required: Sequence[str]) -> Options:
    """Return libx265's native options, and the one for captions. own, required, width: as for `x264_options`."""
    tree = () if _fits_tree(width) else ("cutree=0",)
    parameters = ":".join((*own, X265, *required, *tree, *light_parameters(light, "libx265")))
    return (("x265-params", parameters), X265_CAPTIONS)


def _fits_tree(width: int) -> bool:
    """Report whether a row of blocks is a multiple of TREE_STEP."""
    return -(-width // 16) * 16 % TREE_STEP == 0


@cache
def _has_avx512() -> bool:
    """Report whether the CPU has AVX-512, according to Linux."""
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def nvenc_options(crf: int, preset: str, *, prompt: bool) -> Options:
    """Return the options for NVENC. prompt: encode frame by frame without delay."""
    return (
        *(("bf", "0"), ("flags", "+frame_duration"), ("preset", NVENC_PRESETS[preset])),
        *(("rc", "vbr"), ("cq", str(crf)), ("b", "0")),  # constant quality at any bitrate
        ("chroma_sample_location", "center"),
        *((("tune", "ll"), ("zerolatency", "1"), ("delay", "0"), ("forced-idr", "1")) if prompt else ()),
    )


ORDER = "frames must not be reordered in the log"
CUTS = "segments and their keyframes are controlled by the settings `segment` and `split`"
SAME = "how the work is divided is fixed, so that a resumed run gives the same bytes"
APART = "segments are encoded one after the other, without a first pass over the whole video"
OURS = "there is a separate setting for it"
HANGS = "low delay can hang, and the look-ahead is fixed because memory is planned for it"
FORBIDDEN = {
    ORDER: "bf bframes b_strategy b-adapt b-pyramid b-bias weightb auto-alt-ref lag-in-frames arnr-maxframes "
    "enable-overlays enable-tf frame-parallel b_ref_mode b_adapt",
    HANGS: "pred-struct rtc hierarchical-levels lookahead",
    CUTS: "g keyint keyint_min keyint-min min-keyint sc_threshold scenecut scd open-gop intra-refresh irefresh-type "
    "force_key_frames forced-idr no-forced-idr scenecut-bias radl fades single-slice-intra-refresh",
    SAME: "threads thread_type lookahead-threads sliced-threads pools numa-pools frame-threads lp pin asm opencl wpp pmode pme "
    "non-deterministic slices flags flags2",
    APART: "pass passes passlogfile stats multi-pass-opt-analysis analysis-save analysis-load",
    OURS: "crf preset pix_fmt cpu-used b:v s r aspect cq chroma_sample_location",
}
"""Encoder options that users must not set, by reason."""


def problems_of(options: Iterable[tuple[str, str]], *, nvenc: bool = False) -> list[str]:
    """Return a message for each option that would break the log's rules, including those inside a library's native options.

    nvenc: NVENC is used.
    """
    reasons = {name: reason for reason, names in FORBIDDEN.items() for name in names.split()}
    reasons |= dict.fromkeys(NVENC_OURS, "it would undo how NVENC keeps `crf` and the log's rules") if nvenc else {}
    return [f"encoder option {name}: {reasons[name]}" for name in _names(options) if name in reasons]


def _names(options: Iterable[tuple[str, str]]) -> Iterator[str]:
    lists = {facts.params for facts in CODECS.values()} | {"x264opts"}
    for name, value in options:
        if name in lists:
            yield from (part.partition("=")[0].strip().removeprefix("no-") for part in value.split(":") if part)
        yield name


def light_parameters(light: "Light | None", library: str) -> tuple[str, ...]:
    """Return the encoder's native options for HDR metadata, in the library's notation; empty if there are none."""
    if light is None or library not in ("libx264", "libx265", "libsvtav1"):
        return ()
    mastering, content = {
        "libx264": ("mastering-display", "cll"),
        "libx265": ("master-display", "max-cll"),
        "libsvtav1": ("mastering-display", "content-light"),
    }[library]
    parameters = ["hdr10=1"] if library == "libx265" else []
    if light.primaries and light.luminance:
        units = (50_000, 10_000) if library == "libsvtav1" else (1, 1)
        parameters.append(f"{mastering}={_display(light.primaries, light.luminance, units)}")
    if light.content:
        parameters.append(f"{content}={light.content[0]},{light.content[1]}")
    return tuple(parameters)


def _display(primaries: Sequence[int], luminance: Sequence[int], units: tuple[int, int]) -> str:
    values = [*(_number(value, units[0]) for value in primaries), *(_number(value, units[1]) for value in luminance)]
    return "".join(
        f"{name}({x},{y})" for name, x, y in zip(("G", "B", "R", "WP", "L"), values[::2], values[1::2], strict=True)
    )


def _number(value: int, unit: int) -> str:
    return str(value) if unit == 1 else f"{value / unit:.5f}"
