"""FlashVSR as a model: a streaming network with state that yields one frame for every input frame."""

import hashlib
import json
import math
import os
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np

from upres.engine.core.errors import ModelError, SettingsError, SourceError
from upres.engine.machine import device_memory
from upres.engine.machine.cache import cache_folder
from upres.engine.models.manifest import Installed
from upres.engine.runtime import registry as runtimes
from upres.engine.runtime.base import DeviceKind, cpus
from upres.engine.runtime.ring.device import StateGraph

from .loading import Loader, load_token_cuts
from .manifest import Profile, check, find, read
from .networks import CLIP, LATENT, NEXT, Decoder, decoder_parts, draw_noise
from .session import FlashVSRSession
from .session_parts import Graphs, LiveNetworks, Networks, buffer_bytes
from .shot import Canvas, Noise
from .spool import spooled_bytes
from .tiles import LATENT_PIXELS, Layout, lay_out

SCALES = (2, 3, 4)
KEPT_FRAMES = 36  # limit on the frames of a shot kept in memory: those of the first step, and the results of one step
FIRST_FRAMES = 21  # results of the first step, which the consumer of a live session receives at once
FRAMES_A_STEP = CLIP * NEXT
EFFICIENCY = 0.6  # estimated speed of the graphs on a CPU, relative to a large matrix product
# Runs in flight: a GPU's next run is queued while the host processes the result of the previous one.
DEPTH: Mapping[DeviceKind, int] = {"cpu": 1, "cuda": 2}
TRIAL_SIDE = 256  # width and height in pixels of the frames that a GPU's speed is estimated on
ALLOW_RANDOM = "UPRES_RANDOM_WEIGHTS"  # set to 1 by tests and benchmarks


@dataclass(frozen=True, slots=True)
class Options:
    """Options of FlashVSR.

    seed: of the noise. spool: a folder, if shots of more than one tile are to be upscaled tile by tile once complete. Then only one
    tile's state is in memory, and the folder holds the source frames and latents. A GPU with enough memory for all tiles does not
    use it. threads: of the runtime; all by default. device: cpu or cuda; not tried on a GPU yet.
    """

    seed: int = 0
    spool: Path | None = None
    threads: int | None = None
    device: DeviceKind = "cpu"


class FlashVSR:
    """An exported FlashVSR on ONNX Runtime. scale: 2 to 4; frames are upsampled before the network, which only adds detail."""

    warmup = None

    def __init__(self, folder: Path, *, scale: int = 4, options: Options | None = None) -> None:
        """Load the export in a folder. Raises ModelError if it is unusable, SettingsError for an unsupported scale."""
        if scale not in SCALES:
            raise SettingsError(f"FlashVSR upscales {', '.join(map(str, SCALES))} times, not {scale} times")
        self.manifest = read(folder)
        if self.manifest.weights != "trained" and os.environ.get(ALLOW_RANDOM) != "1":
            raise ModelError(
                f"the weights in {folder} were never trained, they only serve tests; export the trained ones"
            )
        self._options = options or Options()
        if self.manifest.precision == "bf16" and self._options.device == "cpu":
            raise ModelError(
                f"the export in {folder} is in bf16, which ONNX Runtime does not compute on a CPU; export it in fp32"
            )
        check(folder, self.manifest)
        self.scale = scale
        self._folder = folder
        self._loader = Loader(self._options.device, self._options.threads or cpus())
        self._depth = DEPTH[self._options.device]
        self._projector, self._decoder = (self._load(name) for name in (self.manifest.projector, self.manifest.decoder))
        self._cuts = load_token_cuts(self._decoder)
        self.gpu_free = device_memory.free() if self._options.device == "cuda" else None
        self._steps: dict[Profile, tuple[StateGraph, StateGraph]] = {}

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.manifest.network

    @property
    def digest(self) -> str:
        """Hash of everything that the results depend on: graphs, weights and noise."""
        facts = self.manifest
        return hashlib.sha256(
            json.dumps([facts.graphs, facts.weights_sha256, self._options.seed], sort_keys=True).encode()
        ).hexdigest()

    @property
    def report(self) -> str:
        """Runtime, scale and precision in use."""
        facts = self.manifest
        state = ", experimental" if facts.experimental else ""
        runtime = self._decoder.report.removesuffix(" fp32")
        return f"{runtime}, {self.scale}x, {facts.attention} attention in {facts.precision}{state}"

    def open(self, width: int, height: int, *, live: bool = False, noise: Noise | None = None) -> "FlashVSRSession":
        """Start a session for frames of this size. live: do not spool frames, and keep the state of all tiles in memory.

        noise: replaces the default noise; called with latent frame, rows and columns. Raises SourceError if GPU memory is
        insufficient.
        """
        if width < 1 or height < 1:
            raise SourceError(f"frames of {width}x{height} pixels have nothing to upscale")
        self._check_gpu(width, height, live=live)
        layout = self.layout(width, height)
        if layout.profile not in self._steps:
            # Another tile size has its own graphs with the same weights; only the current size's graphs are kept.
            self._steps = {layout.profile: (self._load(layout.profile.first), self._load(layout.profile.following))}
        first, following = self._steps[layout.profile]
        graphs = Graphs(
            self._projector, self._decoder, first, following, self._cuts, self.manifest.head_dim, self._depth
        )
        spooled = self._is_spooled(layout, live=live)
        networks = Networks(graphs, layout) if spooled else LiveNetworks(graphs, layout)
        threads = ThreadPoolExecutor(min(CLIP, self._options.threads or cpus()), "flashvsr")
        canvas = Canvas(height * self.scale, width * self.scale, self.scale, layout, threads)
        spool = self._options.spool if spooled else None
        return FlashVSRSession(canvas, networks, noise or partial(draw_noise, self._options.seed), spool)

    def layout(self, width: int, height: int) -> Layout:
        """Cover frames of this size with tiles."""
        return lay_out(self.manifest.profiles, height * self.scale, width * self.scale)

    def memory(self, width: int, height: int, *, live: bool = False) -> int:
        """Return the peak main memory in bytes of a session for frames of this size, according to the manifest.

        On a GPU, it only covers frames on their way to and from the GPU; the rest is reported by `gpu_memory`.
        """
        layout = self.layout(width, height)
        spooled, pixels = self._is_spooled(layout, live=live), layout.height * layout.width
        frames = (KEPT_FRAMES + (FIRST_FRAMES if live else 0)) * pixels * 3
        copied = self._buffers(layout, spooled=spooled)[1]
        if self.gpu_free is None:
            return frames + copied + self._computing(layout, spooled=spooled)
        return frames + copied + 4 * CLIP * pixels * 3  # frames in float32, assembled from parts

    def gpu_memory(self, width: int, height: int, *, live: bool = False) -> int:
        """Return the peak GPU memory in bytes of the weights and a session; 0 if it does not run on a GPU."""
        layout = self.layout(width, height)
        return 0 if self.gpu_free is None else self._computing(layout, spooled=self._is_spooled(layout, live=live))

    def _computing(self, layout: Layout, *, spooled: bool) -> int:
        """Return the bytes of weights, states, tensors and a step's working memory on the device that computes."""
        facts = self.manifest
        tiles = 1 if spooled else len(layout.tiles)
        parts = [outer.height * outer.width for _, outer in decoder_parts(layout.height, layout.width)]
        state = tiles * layout.profile.state_bytes + sum(parts) * facts.frame_state_bytes
        working = max(layout.profile.working_bytes, max(parts) * facts.decoder_bytes)
        return facts.weight_bytes + state + self._buffers(layout, spooled=spooled)[0] + working

    def _buffers(self, layout: Layout, *, spooled: bool) -> tuple[int, int]:
        return buffer_bytes(layout, self.manifest.dim, self.manifest.head_dim, depth=self._depth, spooled=spooled)

    def _is_spooled(self, layout: Layout, *, live: bool) -> bool:
        """Report whether shots are upscaled tile by tile: if a spool folder is set and no GPU can hold all tiles at once."""
        if live or self._options.spool is None or len(layout.tiles) == 1:
            return False
        return self.gpu_free is None or self._computing(layout, spooled=False) > self.gpu_free

    def _check_gpu(self, width: int, height: int, *, live: bool) -> None:
        """Raise SourceError if GPU memory is insufficient for a session."""
        needed = self.gpu_memory(width, height, live=live)
        if self.gpu_free is not None and needed > self.gpu_free:
            raise SourceError(device_memory.no_room(needed, self.gpu_free))

    @property
    def spool(self) -> Path | None:
        """Folder that shots of more than one tile are spooled to."""
        return self._options.spool

    def spooled(self, width: int, height: int, frames: int) -> int:
        """Return the bytes that a shot of this many frames takes in that folder; 0 if it is not spooled."""
        layout = self.layout(width, height)
        return spooled_bytes(layout, width, height, frames) if self._is_spooled(layout, live=False) else 0

    def seconds(self, width: int, height: int) -> float:
        """Return the predicted seconds per frame of this size: the number of operations over the measured speed."""
        layout = self.layout(width, height)
        pixels = layout.height * layout.width
        flops = len(layout.tiles) * layout.profile.flops / FRAMES_A_STEP + pixels * self.manifest.frame_flops
        return flops / self._flops_a_second

    @cached_property
    def _flops_a_second(self) -> float:
        """Measured speed: of a matrix product times EFFICIENCY on a CPU, of the decoder after a warm-up on a GPU."""
        if self._options.device == "cpu":
            return EFFICIENCY * product_flops()
        decoder, seconds = Decoder(self._decoder, TRIAL_SIDE, TRIAL_SIDE), math.inf
        latent = np.zeros((1, LATENT, TRIAL_SIDE // LATENT_PIXELS, TRIAL_SIDE // LATENT_PIXELS), np.float32)
        frames = np.zeros((CLIP, TRIAL_SIDE, TRIAL_SIDE, 3), np.uint8)
        with closing(decoder):
            decoder.start()
            for _ in range(3):
                start = time.perf_counter()
                decoder.push(latent, frames)
                seconds = min(seconds, time.perf_counter() - start)
        return CLIP * TRIAL_SIDE**2 * self.manifest.frame_flops / seconds

    def _load(self, name: str) -> StateGraph:
        return self._loader(self._folder / name)


def installed(network: str) -> Installed | None:
    """Describe the export of this network in the cache; None if there is none."""
    try:
        facts = read(find(network))
    except ModelError:
        return None
    return Installed(max(SCALES), experimental=facts.experimental)


def load(
    network: str,
    *,
    scale: int | None = None,
    quality: str = "high",
    runtime: str = "auto",
    resumed: Collection[str] = (),
    frame: tuple[int, int] | None = None,
) -> FlashVSR:
    """Load the export of this network in the cache, for files. Raises ModelError with the remedy if there is none.

    quality: ignored, because an export has a fixed precision. runtime: only its device matters, because only ONNX Runtime supports
    state. resumed, frame: ignored, because there is only one way to run it.
    """
    device = runtimes.choose(runtime).device
    options = Options(spool=cache_folder() / "spool", device=device)
    return FlashVSR(find(network, half=device == "cuda"), scale=scale or max(SCALES), options=options)


@cache
def product_flops() -> float:
    """Return this machine's speed in a matrix product, in operations (2 x multiply-adds) per second; the best of five runs."""
    side = 1024
    matrix = np.ones((side, side), np.float32)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
