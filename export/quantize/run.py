"""Conversion of a float32 graph to one that computes mostly in int8, and the manifest's entry for this variant."""

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
"""Numbers of convolutions at the beginning and the end that stay in float32: tried in this order, from most int8 to least."""
MARGIN = 1.0
"""dB above the quality's limit: a reserve for bfloat16 in the other layers, and for more difficult media."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A measured candidate. first, last: convolutions in float32. share: of multiplications in int8. psnr: in dB, by medium."""

    first: int
    last: int
    share: float
    psnr: dict[str, float]

    @property
    def worst(self) -> float:
        """The lowest PSNR of all media, in dB."""
        return min(self.psnr.values())


def quantize(
    network: str, work: Path, out: Path, *, seed: int = 1, report: Callable[[str], None] = lambda _: None
) -> tuple[Path, list[Candidate]]:
    """Write `NETWORK.int8.onnx` and the network's manifest with this variant to `out`; returns the graph and all candidates.

    work: a folder for media, filled from PyPI; existing files are reused. The same seed and versions give the same bytes.
    Raises ModelError if the network is not installed, is not a chain of convolutions, or is not precise enough in int8.
    """
    path, facts = manifest.find(network)
    chain = read(path)
    sources.gather(work / "media", report)
    before = deepcopy(chain)
    torch.set_num_threads(1)  # so that sums are computed in the same order on every machine
    with torch.inference_mode():
        crops = tensor(samples.calibration(work / "media", seed))
        balance(chain, crops)
        compensate(chain, crops[::2])
        candidates = search(chain, before, samples.search(work / "media", seed), report)
    best = next((each for each in candidates if each.share and each.worst >= QUALITIES["fast"] + MARGIN), None)
    if best is None:
        raise ModelError(f"{network} in int8 is {max(each.worst for each in candidates):.1f} dB from float32 at best")
    graph = out / f"{network}.int8.onnx"
    out.mkdir(parents=True, exist_ok=True)
    graph.write_bytes(_quantized_graph(path, chain, layers_between(chain, best.first, best.last)))
    digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    variant = Variant("int8", graph.name, digest, round(best.worst, 2))
    others = tuple(each for each in facts.variants if each.precision != variant.precision)
    replace(facts, variants=(*others, variant)).write(out / f"{network}.json")
    return graph, candidates


def search(chain: Chain, before: Chain, media: Mapping[str, Pixels], report: Callable[[str], None]) -> list[Candidate]:
    """Measure the PSNR of the rounded chain to the original chain on each medium, for all ENDS."""
    frames = {name: tensor(crops) for name, crops in media.items()}
    exact = {name: before.run(each) for name, each in frames.items()}
    sizes, candidates = [weight.numel() for weight in chain.weights], []
    for first, last in ENDS:
        inside = layers_between(chain, first, last)
        psnr = {name: _psnr(chain.run(each, inside), exact[name]) for name, each in frames.items()}
        share = sum(sizes[place] for place in inside) / sum(sizes)
        candidates.append(Candidate(first, last, round(share, 3), psnr))
        report(f"{first} first and {last} last not in int8: {share:.0%} of the arithmetic is, {psnr}")
    return candidates


def layers_between(chain: Chain, first: int, last: int) -> range:
    """Return the indices of the convolutions without the first and the last ones."""
    return range(first, len(chain.weights) - last)


def _quantized_graph(path: Path, chain: Chain, inside: range) -> bytes:
    changed = {
        name: values.numpy()
        for names, weight, bias in zip(chain.names, chain.weights, chain.biases, strict=True)
        for name, values in zip(names, (weight, bias), strict=True)
    }
    return quantized(path, changed, {chain.names[place][0]: chain.rounded[place] for place in inside})


def _psnr(levels: torch.Tensor, exact: torch.Tensor) -> float:
    error = float((levels - exact).square().mean())
    return round(10 * float(np.log10(255**2 / max(error, 1e-10))), 2)
