"""Weights to a verified graph and its manifest: read, write the graph, hold it against a reference, put both in place."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from upres.engine.core.errors import ModelError, TargetError
from upres.engine.models.catalog import NETWORKS, Network, slug_of
from upres.engine.models.manifest import Manifest
from upres.export.families import architecture
from upres.export.families.architecture import SRVGG
from upres.export.families.networks import write
from upres.export.graphs.analysis import facts
from upres.export.graphs.writer import OPSET
from upres.export.verify.compare import verify
from upres.export.verify.reference import reference
from upres.export.weights import read

OVERLAP = 32
"""Pixels that RRDBNet's tiles overlap. It sees too far to hold exactly, so tiles are blended.

Before blending, a tile is 50 dB from the whole frame with 23 blocks (60 dB with an overlap of 48) and 61 dB with 6.
"""
FOLDED_PAD = 2
"""The folded halving is wrong in the outermost two pixels of its output, one of its input; a second one softens the edge."""


@dataclass(frozen=True, slots=True)
class Exported:
    """graph: the ONNX file; its manifest stands beside it as `.json`."""

    graph: Path
    manifest: Manifest


def export(source: Path, network: str, folder: Path) -> Exported:
    """Turn weights into `NETWORK.onnx` and `NETWORK.json` in this folder; the manifest comes last, so it never lacks its graph.

    Raises ModelError where the weights are damaged, are not this network's, or the graph disagrees with the reference;
    TargetError where the folder cannot be written. Nothing is left behind then.
    """
    entry = _entry(network)
    found = read.read(source)
    net = architecture.infer(found.tensors)
    family = "srvgg" if isinstance(net, SRVGG) else "rrdb"
    if family != entry.family:
        raise ModelError(f"{source} holds {net}, but {network} is of the family {entry.family}; name another --network")
    graph = write(found.tensors, net, entry.scale, network)
    pad = FOLDED_PAD if net.scale != entry.scale else 0
    referee = reference(found, net)
    agreement = verify(graph, referee, scale=entry.scale, pad=pad)
    exact = family == "srvgg"
    measured = facts(graph)
    manifest = Manifest(
        network=network,
        slug=slug_of(network).slug,
        scale=entry.scale,
        pad=pad,
        halo=measured.halo if exact else OVERLAP,
        exact_halo=exact,
        multiple=1 if exact else 4 // net.scale,
        bytes_per_pixel=measured.bytes_per_pixel,
        flops_per_pixel=measured.flops_per_pixel,
        opset=OPSET,
        weights_sha256=found.sha256,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        reference=referee.name,
        max_difference=agreement.max_difference,
        psnr=agreement.psnr,
        licence=entry.licence,
    )
    return Exported(_place(folder, graph, manifest), manifest)


def resolve(path: Path, network: str | None) -> tuple[Path, str]:
    """The file of weights and the network it is, from a path the user gave and the name, if one was given.

    A folder is looked through for files whose names the catalogue knows. Raises ModelError where that leaves none or several.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    known = {file: name for file in files for name in _names(file) if network in (None, name)}
    if len(known) == 1:
        return next(iter(known.items()))
    if network is not None and not path.is_dir():
        return path, _entry(network).name
    found = ", ".join(f"{file.name} ({name})" for file, name in known.items()) or "none"
    raise ModelError(
        f"{path} does not say which network it is; known by name: {found}; name the file, and --network if needed"
    )


def _names(file: Path) -> list[str]:
    """The networks whose weights have this file name."""
    return [
        name
        for name, entry in NETWORKS.items()
        if file.name in (entry.file, f"{entry.wheel}.param", f"{name}.param", f"{name}.safetensors", f"{name}.pth")
    ]


def _entry(network: str) -> Network:
    exportable = [name for name, entry in NETWORKS.items() if entry.family in ("srvgg", "rrdb")]
    if network not in exportable:
        raise ModelError(f"unknown network {network!r}; there are: {', '.join(exportable)}")
    return NETWORKS[network]


def _place(folder: Path, graph: bytes, manifest: Manifest) -> Path:
    """Write both under other names, then rename: the graph first, the manifest last."""
    target = folder / f"{manifest.network}.onnx"
    parts = [target.with_suffix(suffix) for suffix in (".onnx.part", ".json.part")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            parts[0].write_bytes(graph)
            manifest.write(parts[1])
            parts[0].replace(target)
            parts[1].replace(target.with_suffix(".json"))
        finally:
            for part in parts:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise TargetError(f"{folder} cannot be written: {error}; name another folder with --out") from error
    return target
