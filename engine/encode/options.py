"""Encoding settings: those that a user chooses, and the codec, size and pixel format derived from them for a frame shape."""

from dataclasses import dataclass, replace
from typing import Literal

import av

from upres.engine.color.convert import encoded
from upres.engine.core.errors import SettingsError
from upres.engine.core.frame import Color, Shape

from .codecs import (
    CODECS,
    NVENC,
    NVENC_FORMAT,
    NVENC_MOST,
    PARAMS,
    PRESETS,
    SVT,
    THREADS,
    CodecFacts,
    Options,
    common_options,
    light_parameters,
    nvenc_options,
    problems_of,
    x264_options,
    x265_options,
)

Codec = Literal["auto", "h264", "hevc", "av1", "vp9", "prores", "ffv1", "lossless"]
Unit = Literal["segment", "frame"]
SEGMENT_SECONDS = 2.0
LIVE_PRESET = "superfast"
"""Default preset of live results. Encoder and network share a CPU, and `fast` would take as long as the light network."""
LONGEST_SIDE = 16384  # pixels, supported by x264 and by decoders of HEVC
MOST_PIXELS = 1 << 28  # supported by libavutil, including a margin of 128 per side (av_image_check_size)
SMALLEST_HEVC = 16  # minimum side length of libx265
LARGEST_H264 = 4096  # side length; H.264's level 5.2, the highest that hardware decoders support, ends at 4096x2304
LOSSLESS_DEEP = "gbrp12le"  # precise enough that the conversion from 10-bit YUV loses nothing
ODD = "{}x{} has an odd side, so it is encoded as 4:4:4, which not every player shows"


@dataclass(frozen=True, slots=True)
class Encoder:
    """Settings for the encoding of the result.

    crf: None for the codec's default. segment_seconds: segments start at multiples of it.
    height: height in pixels to resample the result down to, or None.
    fragment: unit of publication; with "frame", frames are encoded without look-ahead.
    live: use a single encoder without delay; such a run cannot be resumed.
    pixel_format: FFmpeg's name, or None for the codec's default. options: native options of the encoder, in FFmpeg's names.
    nvenc: encode H.264 and HEVC on an NVIDIA GPU if they are 8-bit 4:2:0. A repeated run gives the same frames, but not necessarily
    the same bytes.
    """

    codec: Codec = "auto"
    crf: int | None = None
    preset: str = "fast"
    segment_seconds: float = SEGMENT_SECONDS
    height: int | None = None
    fragment: Unit = "segment"
    live: bool = False
    pixel_format: str | None = None
    options: Options = ()
    nvenc: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.codec not in ("auto", *CODECS, "lossless"):
            problems.append(f"`codec` must be auto, {', '.join(CODECS)} or lossless, got {self.codec!r}")
        worst = self.facts.worst
        if self.crf is not None and not 0 <= self.crf <= worst:
            more = " (of av1 and vp9 in 0..63: name the codec)" if self.codec == "auto" else ""
            problems.append(f"`crf` must lie in 0..{worst}, got {self.crf}{more}")
        if self.preset not in PRESETS:
            problems.append(f"`preset` must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if not 0.1 <= self.segment_seconds <= 60:
            problems.append(f"`segment` must lie in 0.1..60, got {self.segment_seconds}")
        if self.height is not None and not 16 <= self.height <= 16384:
            problems.append(f"`height` must lie in 16..16384, got {self.height}")
        if self.fragment not in ("segment", "frame"):
            problems.append(f"fragment must be segment or frame, got {self.fragment!r}")
        if self.prompt and not self.facts.prompt:
            problems.append(f"`codec` must be h264 or hevc for live sources and single frames, got {self.codec!r}")
        if (self.options or self.pixel_format) and self.codec in ("auto", "lossless"):
            problems.append(
                "`codec` must be named where encoder options or a pixel format are set: they are of one encoder"
            )
        if self.nvenc and self.codec not in ("auto", *NVENC):
            problems.append(f"NVENC encodes {' and '.join(NVENC)}, not {self.codec}")
        if self.nvenc and self.crf == 0:
            problems.append("`crf` must lie in 1..51 for NVENC, which has no lossless, got 0")
        if self.nvenc and self.pixel_format not in (None, NVENC_FORMAT):
            problems.append(f"the pixel format must be {NVENC_FORMAT} for NVENC, got {self.pixel_format}")
        problems += problems_of(self.options, nvenc=self.nvenc)
        if problems:
            raise SettingsError("; ".join(problems))

    @property
    def facts(self) -> CodecFacts:
        """Properties of the codec; those of H.264 if the codec is chosen later or unknown."""
        return CODECS.get(self.codec, CODECS["h264"])

    @property
    def prompt(self) -> bool:
        """Report whether frames are encoded one by one, without look-ahead."""
        return self.live or self.fragment == "frame"

    @property
    def quality(self) -> int:
        """The constant rate factor; 0 for a codec without one."""
        return (self.facts.crf or 0) if self.crf is None else self.crf

    def within(self, container: str) -> "Encoder":
        """Return a copy with a codec set if none is and the container (libavformat's name) does not support the default ones."""
        return replace(self, codec="vp9") if self.codec == "auto" and container == "webm" else self

    @property
    def eight_bits(self) -> str | None:
        """The reason why the result is limited to 8 bits per channel; None if it is not."""
        if self.live:
            return "a live result has 8"
        name = self.pixel_format or self.facts.deep_format
        return f"{self.pixel_format or self.codec} holds 8" if name is None or bits_of(name) <= 8 else None


@dataclass(frozen=True, slots=True)
class Encoding:
    """Settings of an encoder, resolved for one frame size. why: message for the user about the choice.

    container: libavformat's name of the segments' format.
    """

    library: str
    pixel_format: str
    width: int
    height: int
    color: Color
    options: Options
    encoder: Encoder
    why: str | None = None
    container: str = "mp4"


def resolve(encoder: Encoder, shape: Shape) -> Encoding:
    """Resolve settings for upscaled frames of this shape.

    Raises SettingsError if `height` is larger than the frames, or if no encoder, or not the chosen one, supports the size.
    """
    width, height = _size(encoder, shape)
    if max(width, height) > LONGEST_SIDE or (width + 128) * (height + 128) >= MOST_PIXELS:
        raise SettingsError(
            f"no encoder takes frames of {width}x{height}: at most {LONGEST_SIDE} pixels a side and "
            f"{MOST_PIXELS // 10**6} million in all; choose a smaller scale, or a `height` to resample the result to"
        )
    color = encoded(shape.color, deep=shape.deep)
    if encoder.codec == "lossless":
        return _resolve_lossless(encoder, shape, width, height, color)
    codec, note = _codec(encoder, shape, width, height)
    if codec not in ("h264", "hevc"):
        return _resolve_other(encoder, shape, width, height, color)
    odd = bool(width % 2 or height % 2)
    pixel_format = ("yuv444p" if odd else "yuv420p") + "10le" * shape.deep
    if encoder.pixel_format:
        pixel_format = _checked_format(encoder, width, height, encoder.pixel_format)
        odd = "420" not in encoder.pixel_format
    note = _with_depth(note, shape, pixel_format)
    fits = max(width, height) <= NVENC_MOST.get(codec, 0)
    if encoder.nvenc and pixel_format == NVENC_FORMAT and fits:
        options = (*nvenc_options(encoder.quality, encoder.preset, prompt=encoder.prompt), *encoder.options)
        return Encoding(NVENC[codec], pixel_format, width, height, color, options, encoder, note)
    if encoder.nvenc:
        limits = "8-bit 4:2:0" if fits else f"{codec} of at most {NVENC_MOST[codec]} pixels a side"
        cpu = f"NVENC takes {limits}, so the CPU encodes {pixel_format} of {width}x{height}"
        note = "; ".join(filter(None, (note, cpu)))
    library, options = _cpu_options(encoder, shape, codec, width, subsampled=not odd)
    return Encoding(library, pixel_format, width, height, color, options, encoder, note)


def _resolve_lossless(encoder: Encoder, shape: Shape, width: int, height: int, color: Color) -> Encoding:
    """Resolve settings for RGB without loss."""
    color = Color("gbr", "pc", color.primaries, color.transfer)
    common = common_options(encoder.preset, prompt=encoder.prompt)
    if shape.deep:
        options = (*common, *x265_options(shape.light, width, (), ("lossless=1",)))
        return Encoding("libx265", LOSSLESS_DEEP, width, height, color, options, encoder)
    return Encoding("libx264rgb", "rgb24", width, height, color, (*common, ("qp", "0")), encoder)


def _cpu_options(encoder: Encoder, shape: Shape, codec: str, width: int, *, subsampled: bool) -> tuple[str, Options]:
    """Return library and options for H.264 or HEVC on the CPU. subsampled: chroma has fewer samples than luma."""
    own = (each for each in encoder.options if each[0] not in PARAMS)
    options = (*common_options(encoder.preset, prompt=encoder.prompt), ("crf", str(encoder.quality)), *own)
    # swscale places chroma in the middle of its four pixels; players assume left if it is not specified.
    centered = ("chromaloc=1",) if subsampled else ()
    if codec == "h264":
        return "libx264", (*options, *x264_options(shape.light, width, _params(encoder), centered))
    return "libx265", (*options, *x265_options(shape.light, width, _params(encoder), centered))


def _codec(encoder: Encoder, shape: Shape, width: int, height: int) -> tuple[str, str | None]:
    """Return the codec for a result of this size, and a message for the user about the choice, if any.

    Raises SettingsError if the codec does not support the size.
    """
    odd = width % 2 or height % 2
    why = ODD.format(width, height) if odd else None
    codec = encoder.codec
    if codec == "auto":
        large = max(width, height) > LARGEST_H264
        codec = "hevc" if (large or shape.deep) and min(width, height) >= SMALLEST_HEVC else "h264"
        if codec == "hevc" and not large:
            why = f"{shape.bits} bits a channel are encoded as HEVC: few players show them as H.264, which `codec` h264 gives"
        elif codec == "hevc":
            why = (
                f"{width}x{height} exceeds what H.264 players support ({LARGEST_H264} a side), so it is encoded as HEVC"
            )
    if codec == "hevc" and min(width, height) < SMALLEST_HEVC:
        raise SettingsError(
            f"HEVC takes frames of at least {SMALLEST_HEVC} pixels a side, and these are {width}x{height}; choose `codec` h264"
        )
    return codec, why


def bits_of(pixel_format: str) -> int:
    """Return the bits per channel of a pixel format; 16 if FFmpeg does not know it, which is reported later."""
    try:
        return max(each.bits for each in av.VideoFormat(pixel_format, 16, 16).components)
    except ValueError:
        return 16


def _with_depth(why: str | None, shape: Shape, pixel_format: str) -> str | None:
    """Add a note if the pixel format has fewer bits than the frames."""
    bits = bits_of(pixel_format)
    if not shape.deep or bits >= shape.bits:
        return why
    note = (
        f"the source's {shape.bits} bits a channel become {bits} in {pixel_format}; another pixel format may hold more"
    )
    return "; ".join(filter(None, (why, note)))


def _resolve_other(encoder: Encoder, shape: Shape, width: int, height: int, color: Color) -> Encoding:
    """Resolve settings for a codec other than H.264 and HEVC: frames are not reordered, and the number of threads is fixed."""
    facts = encoder.facts
    options = [("bf", "0"), ("flags", "+frame_duration"), ("threads", str(THREADS)), *facts.options]
    if facts.preset is not None:
        name, values = facts.preset
        options.append((name, values[PRESETS.index(encoder.preset)]))
    if facts.crf is not None:
        options.append(("crf", str(encoder.quality)))
    options += (each for each in encoder.options if each[0] not in PARAMS)
    if facts.library == "libsvtav1":
        light = light_parameters(shape.light, facts.library)
        options.append(("svtav1-params", ":".join((*_params(encoder), SVT, *light))))
    odd = (width % 2 or height % 2) and facts.odd_format is not None and encoder.pixel_format is None
    default = (facts.odd_format if odd else None) or (facts.deep_format if shape.deep else None) or facts.pixel_format
    pixel_format = _checked_format(encoder, width, height, default)
    why = _with_depth(ODD.format(width, height) if odd else None, shape, pixel_format)
    return Encoding(
        facts.library, pixel_format, width, height, color, tuple(options), encoder, why, container=facts.container
    )


def _checked_format(encoder: Encoder, width: int, height: int, default: str) -> str:
    """Return the pixel format. Raises SettingsError if the encoder does not support it, or it does not support the frame size."""
    facts = encoder.facts
    name = encoder.pixel_format or default
    supported = [each.name for each in av.Codec(facts.library, "w").video_formats or ()]
    if name not in supported:
        raise SettingsError(
            f"{facts.library} does not support the pixel format {name}; it supports {', '.join(supported)}"
        )
    shape = av.VideoFormat(name, width, height)
    if any((width % 2 and part.width < width) or (height % 2 and part.height < height) for part in shape.components):
        raise SettingsError(
            f"{name} does not support odd sizes such as {width}x{height}; set a `height` that makes both sides even, or another "
            "format"
        )
    if not shape.is_planar or shape.is_rgb or any(each.is_alpha for each in shape.components):
        raise SettingsError(
            f"the pixel format must be YUV without transparency, got {name}; use `lossless` for exact pixels"
        )
    return name


def _params(encoder: Encoder) -> tuple[str, ...]:
    """Return the user's values for a library's native options, which precede the required ones."""
    return tuple(value for name, value in encoder.options if name in PARAMS)


def _size(encoder: Encoder, shape: Shape) -> tuple[int, int]:
    if encoder.height is None or encoder.height == shape.height:
        return shape.width, shape.height
    if encoder.height > shape.height:
        raise SettingsError(
            f"height must be at most {shape.height}, the height of the model's output, got {encoder.height}: it can only be reduced"
        )
    return max(2, round(shape.width * encoder.height / shape.height / 2) * 2), encoder.height
