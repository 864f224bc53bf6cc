"""Advice on the model and pre-filters that suit a clip: rules as data, and measurements on the clip's frames."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from upres.engine.color.convert import HDR
from upres.engine.decode.filters import filtered
from upres.engine.decode.info import Info
from upres.engine.decode.reader import Reader

LARGE = 540  # height in pixels from which on a scale of 2 is sufficient
FRAMES = 72  # number of frames that are measured
# A pre-filter is recommended above these limits.
INTERLACED = 0.3  # share of frames that idet reports as interlaced
BLOCKY = 1.25  # mean step across the 8x8 block grid, divided by the mean step elsewhere
NOISY = 4.0  # standard deviation, in 8-bit levels, in the quietest quarter of the frame

# For CombDetector.
MOTION_LEVELS = 6.0  # change of a pixel, in 8-bit levels, that counts as motion
MIN_COMB_RATIO = 0.55  # minimum ratio of the combs in an interlaced frame to those in the better weave
MAX_COMB_RATIO = 1.05  # maximum of that ratio; detail finer than a line may raise it in any frame, interlaced or not
MIN_WEAVE_DIFFERENCE = (
    0.05  # minimum difference between the weaves, as a share of the worse, for a larger ratio to be conclusive
)

Luma = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of a clip. interlaced: share of interlaced frames. blocks: as BLOCKY, 1 without blocks.

    noise: as NOISY.
    """

    interlaced: float
    blocks: float
    noise: float


@dataclass(frozen=True, slots=True)
class Clip:
    """Input of the rules. height: the shorter side. content: auto, photo or animation. hdr: whether it has high dynamic range."""

    height: int
    seconds: float
    content: str
    measured: Measured
    hdr: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A recommendation that is valid if `applies` returns true. setting: name and value of the setting it recommends, if any."""

    name: str
    applies: Callable[[Clip], bool]
    advice: str
    setting: tuple[str, str | bool] | None = None


RULES = (
    Rule("small", lambda c: c.height < LARGE, "below 540p: upscale four times", ("model", "RealESRGAN_Vid_x4")),
    Rule("large", lambda c: c.height >= LARGE, "540p and above: upscale twice", ("model", "RealESRGAN_Vid_x2")),
    Rule(
        "drawn",
        lambda c: c.content == "animation",
        "animation: use a network trained on it; FlashVSR_Tiny was trained on live action only",
        ("content", "animation"),
    ),
    Rule(
        "filmed",
        lambda c: c.content == "photo",
        "live action: use a network trained on it; on a GPU, FlashVSR_Tiny also keeps details stable between frames",
        ("content", "photo"),
    ),
    Rule(
        "long",
        lambda c: 15 < c.seconds <= 30,
        "longer than 15 s: the hosted API accepts that only for x2, up to 30 s; upres has no such limit",
    ),
    Rule(
        "longer",
        lambda c: c.seconds > 30,
        "longer than 30 s: for the hosted API, split it at its shots; upres has no such limit",
        ("split", True),
    ),
    Rule(
        "hdr",
        lambda c: c.hdr,
        "high dynamic range: it is preserved, but the networks were trained on SDR; tone mapping converts it to SDR first",
        ("tonemap", True),
    ),
    Rule(
        "interlaced",
        lambda c: c.measured.interlaced > INTERLACED,
        "interlaced: deinterlace it first; otherwise its combing artifacts are upscaled as well",
        ("prefilters", "deinterlace"),
    ),
    Rule(
        "blocky",
        lambda c: c.measured.blocks > BLOCKY,
        "compression blocks: smooth them first; otherwise the network sharpens their edges",
        ("prefilters", "deblock"),
    ),
    Rule(
        "noisy",
        lambda c: c.measured.noise > NOISY,
        "noise: remove it first; otherwise the network sharpens it like detail",
        ("prefilters", "denoise"),
    ),
    Rule("grade", lambda c: True, "grade after upscaling, not before: the networks were trained on ungraded frames"),
)


def model_for(height: int) -> str:
    """Return the model that is advised for a source of this height: its shorter side, as in 540p."""
    return "RealESRGAN_Vid_x2" if height >= LARGE else "RealESRGAN_Vid_x4"


def advise(clip: Clip) -> list[Rule]:
    """List the rules that apply, in the order in which to follow them."""
    return [rule for rule in RULES if rule.applies(clip)]


def describe(info: Info, measured: Measured, content: str) -> Clip:
    """Return the input of the rules for an open source."""
    return Clip(
        min(info.shape.width, info.shape.height),
        info.seconds or 0.0,
        content,
        measured,
        info.shape.color.transfer in HDR,
    )


def in_words(measured: Measured) -> dict[str, str]:
    """Rate each measurement: none, little (over half the limit at which a pre-filter is advised) or much (over that limit)."""
    limits = {"interlaced": (0.0, INTERLACED), "blocks": (1.0, BLOCKY), "noise": (0.0, NOISY)}
    words = {}
    for name, (least, limit) in limits.items():
        share = (getattr(measured, name) - least) / (limit - least)
        words[name] = "much" if share > 1 else "little" if share > 0.5 else "none"
    return words


def measure(reader: Reader) -> Measured:
    """Measure interlacing, blocking and noise on the first frames of an open source, which this consumes."""
    blocks, noise, interlaced, classified, detector = [], [], 0.0, 0.0, CombDetector()
    frames: Iterator[VideoFrame] = islice(reader.frames(), FRAMES)
    for frame in filtered(frames, reader.info.shape, "idet"):
        luma = frame.reformat(format="gray").to_ndarray().astype(np.float32)
        blocks.append(_blocks(luma))
        noise.append(_noise(luma))
        detector.push(luma)
        interlaced, classified = _interlaced(frame.metadata)
    share = interlaced / classified if classified and detector.may_be_interlaced else 0.0
    return Measured(share, _median(blocks, 1.0), _median(noise, 0.0))


def _interlaced(metadata: dict[str, str]) -> tuple[float, float]:
    """Return the number of frames that idet has classified as interlaced so far, and the number of all that it has classified."""
    counts = {
        name: float(metadata.get(f"lavfi.idet.multiple.{name}", 0))
        for name in ("tff", "bff", "progressive", "undetermined")
    }
    return counts["tff"] + counts["bff"], sum(counts.values())


def _blocks(luma: Luma) -> float:
    """Return the mean step across the borders of 8x8 blocks divided by the mean step elsewhere."""
    ratios = []
    for steps in (np.abs(np.diff(luma, axis=1)).mean(axis=0), np.abs(np.diff(luma, axis=0)).mean(axis=1)):
        grid = np.arange(len(steps)) % 8 == 7
        if grid.any() and steps[~grid].mean() > 0:
            ratios.append(steps[grid].mean() / steps[~grid].mean())
    return float(np.mean(ratios)) if ratios else 1.0


def _noise(luma: Luma) -> float:
    """Estimate the noise's standard deviation (J. Immerkaer, 1996) in the quietest quarter of 16x16 blocks, away from edges."""
    if min(luma.shape) < 3:
        return 0.0
    rows = luma[:-2] - 2 * luma[1:-1] + luma[2:]
    response = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]) * np.sqrt(np.pi / 2) / 6
    tall, wide = (max(1, side // 16) for side in response.shape)
    cut = response[: response.shape[0] // tall * tall, : response.shape[1] // wide * wide]
    means = cut.reshape(tall, cut.shape[0] // tall, wide, cut.shape[1] // wide).mean(axis=(1, 3))
    return float(np.percentile(means, 25))


def _median(values: Iterable[float], default: float) -> float:
    numbers = list(values)
    return float(np.median(numbers)) if numbers else default


class CombDetector:
    """Detector that distinguishes interlaced frames from vertical motion by counting combing artifacts.

    libavfilter's idet compares the lines of a frame with the lines between them in the neighboring frames, so it mistakes scrolling
    text and test patterns for interlacing. To distinguish these cases, the detector interleaves consecutive frames where something
    moves: in one weave, even lines are from the first frame and odd lines from the second; in the other weave, vice versa. A
    progressive frame was captured at one time, and has far fewer combs than either weave. An interlaced frame consists of two
    fields that were captured at different times. It has about as many combs as the better weave, whose fields are equally far
    apart in time, and fewer than the worse weave, whose fields are three times as far apart.
    """

    def __init__(self) -> None:
        self._last: Luma | None = None
        self._comb_sums = np.zeros(3)  # total strength of combs in the frames themselves, and in each weave

    def push(self, luma: Luma) -> None:
        """Add the next frame, (height, width)."""
        last, self._last = self._last, luma
        if last is None or last.shape != luma.shape or len(luma) < 3:
            return
        moved = np.abs(luma - last) > MOTION_LEVELS
        moving = moved[:-2] | moved[1:-1] | moved[2:]
        self._comb_sums += [_combs(frame)[moving].sum() for frame in (last, _woven(last, luma), _woven(luma, last))]

    @property
    def may_be_interlaced(self) -> bool:
        """Whether the frames may be interlaced. Without motion, this cannot be ruled out."""
        frames, *weaves = self._comb_sums
        better, worse = sorted(weaves)
        if frames < MIN_COMB_RATIO * better:
            return False
        return bool(frames <= MAX_COMB_RATIO * better or worse - better > MIN_WEAVE_DIFFERENCE * worse)


def _woven(even: Luma, odd: Luma) -> Luma:
    woven = even.copy()
    woven[1::2] = odd[1::2]
    return woven


def _combs(luma: Luma) -> Luma:
    """Return by how much each pixel differs from both the one above and the one below in the same direction, in 8-bit levels."""
    above, below = luma[1:-1] - luma[:-2], luma[1:-1] - luma[2:]
    return np.where(above * below > 0, np.minimum(np.abs(above), np.abs(below)), 0)
