"""Pre-filters for frames before upscaling, each a libavfilter chain, and shot detection. All are off by default.

PyAV is imported only in the functions that need it, because the command line's help lists the pre-filters and has to start fast.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upres.engine.core.errors import SettingsError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import Graph

    from upres.engine.core.frame import Shape


@dataclass(frozen=True, slots=True)
class Prefilter:
    """A pre-filter. chain: in libavfilter's notation. what: description for the help. rate: output frames per input frame.

    deep: whether it supports more than 8 bits per channel.
    warmup: number of preceding frames that a frame's result depends on; None means all since the first.
    """

    chain: str
    what: str
    rate: int = 1
    deep: bool = True
    warmup: int | None = 0


# The filter's default thresholds remove only the faintest noise. Of grain with a standard deviation of 6, they keep 97 %, and the
# thresholds here 35 %.
ATADENOISE = "atadenoise=0a=0.1:0b=0.2:1a=0.1:1b=0.2:2a=0.1:2b=0.2"

PREFILTERS = {
    "deinterlace": Prefilter(
        "bwdif=mode=send_frame:deint=all", "two fields woven into one frame become one clean frame", warmup=1
    ),
    "deinterlace-fields": Prefilter(
        "bwdif=mode=send_field:deint=all", "every field becomes a frame: twice the rate", rate=2, warmup=1
    ),
    "denoise": Prefilter(ATADENOISE, "noise averaged over time; fast, keeps still detail", warmup=4),
    "denoise-strong": Prefilter("nlmeans=s=3:p=7:r=9", "noise averaged over like patches; slow, strong", deep=False),
    "deblock": Prefilter("deblock=filter=strong:block=8", "edges of 8x8 compression blocks smoothed"),
    "stabilise": Prefilter("deshake", "shake of the camera taken out", deep=False, warmup=None),
}
SHOTS = "scdet=threshold=10"
SHOTS_WARMUP = 2  # frames: the filter compares each frame-to-frame change with the one before
SHOT_START = "lavfi.scd.time"  # the frame metadata that scdet writes on the first frame of a shot


def check(names: Iterable[str]) -> None:
    """Raise SettingsError if a name is not a pre-filter; the message lists all unknown names."""
    if unknown := [name for name in names if name not in PREFILTERS]:
        raise SettingsError(f"unknown pre-filter: {', '.join(unknown)}; there are: {', '.join(PREFILTERS)}")


def prefiltered(
    frames: "Iterator[VideoFrame]", shape: "Shape", names: tuple[str, ...], *, shots: bool
) -> "Iterator[VideoFrame]":
    """Yield decoded frames after the named pre-filters; with `shots`, the first frame of each shot has SHOT_START metadata.

    Times are in each frame's own time base, which a filter may have changed. Durations are not valid and must be derived again.
    """
    chain = [PREFILTERS[name].chain for name in names] + [SHOTS] * shots
    return filtered(frames, shape, ",".join(chain)) if chain else frames


def filtered(frames: "Iterator[VideoFrame]", shape: "Shape", chain: str) -> "Iterator[VideoFrame]":
    """Yield frames after a chain in libavfilter's notation; pts stay in the shape's time base."""
    graph: Graph | None = None
    for frame in frames:
        graph = graph or _graph(frame, shape, chain)
        graph.vpush(frame)
        yield from _pull(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _pull(graph)


def _graph(frame: "VideoFrame", shape: "Shape", chain: str) -> "Graph":
    import av
    from av.filter import Graph

    from upres.engine.color.convert import MATRICES

    graph = Graph()
    source = graph.add(
        "buffer",
        width=str(frame.width),
        height=str(frame.height),
        pix_fmt=frame.format.name,
        time_base=str(shape.time_base),
        colorspace=MATRICES.get(frame.colorspace, "unknown"),
        range={1: "tv", 2: "pc"}.get(frame.color_range, "unknown"),
    )
    last = source
    for step in [*chain.split(","), f"format={frame.format.name}"]:
        name, _, args = step.partition("=")
        node = graph.add(name, args or None)
        last.link_to(node)
        last = node
    last.link_to(graph.add("buffersink"))
    try:
        graph.configure()
    except av.FFmpegError as error:
        size = f"{frame.width}x{frame.height} {frame.format.name}"
        raise SettingsError(
            f"frames of {size} cannot go through {chain} ({error.strerror}); leave that pre-filter out"
        ) from error
    return graph


def _pull(graph: "Graph") -> "Iterator[VideoFrame]":
    import av

    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield frame
