"""Conversion of weights to a graph and its manifest: the graph is compared with a reference before both are written."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from upres.engine.core.errors import ModelError, TargetError
from upres.engine.models.catalog import NETWORKS, SLUGS, Network, full_name, slug_of
from upres.engine.models.manifest import Manifest
from upres.export.families.base import Family
from upres.export.families.registry import identify
from upres.export.graphs.analysis import analyze
from upres.export.graphs.frame_writer import OPSET
from upres.export.verify.compare import Agreement, verify
from upres.export.verify.reference import reference
from upres.export.weights.read import read


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported network. graph: the ONNX file; its manifest is next to it, with the suffix `.json`."""

    graph: Path
    manifest: Manifest


def export(source: Path, network: str, folder: Path) -> Exported:
    """Convert weights to `NETWORK.onnx` and `NETWORK.json` in a folder; the manifest is written last, so it never lacks its graph.

    network: a name in the catalog, or a name that the user chooses for custom weights.
    Raises ModelError if the weights are damaged, are not this network's, or the graph disagrees with the reference, and
    TargetError if the folder cannot be written. No files are left behind after an error.
    """
    weights = read(source)
    architecture, tensors = identify(weights)
    entry = _entry(network, architecture)
    if architecture.name != entry.family:
        raise ModelError(
            f"{source} contains {architecture}, but {network} is of the family {entry.family}; choose another --network"
        )
    graph = architecture.write(tensors, entry.scale, network)
    referee = reference(architecture, tensors, weights.param)
    agreement = verify(graph, referee, scale=entry.scale, pad=architecture.pad(entry.scale))
    manifest = _manifest(entry, architecture, graph, weights_sha256=weights.sha256, agreement=agreement)
    return Exported(_place(folder, graph, manifest), manifest)


def _entry(network: str, architecture: Family) -> Network:
    """Return the catalog entry of a network, or a new entry for a custom network."""
    if re.fullmatch(r"\w[\w.-]*", network) is None or network in SLUGS:
        raise ModelError(
            f"{network!r} is not a valid network name: use letters, digits, '_', '-' and '.', but not the name of a model"
        )
    own = Network(network, architecture.name, architecture.scale, content="", licence="not stated")
    return NETWORKS.get(network, own)


def _manifest(
    entry: Network, architecture: Family, graph: bytes, *, weights_sha256: str, agreement: Agreement
) -> Manifest:
    facts = analyze(graph)
    return Manifest(
        network=entry.name,
        slug=slug_of(entry.name).slug if entry.name in NETWORKS else entry.name,
        scale=entry.scale,
        pad=architecture.pad(entry.scale),
        halo=facts.halo if architecture.overlap is None else architecture.overlap,
        exact_halo=architecture.overlap is None,
        multiple=architecture.multiple,
        bytes_per_pixel=facts.bytes_per_pixel,
        flops_per_pixel=facts.flops_per_pixel,
        opset=OPSET,
        weights_sha256=weights_sha256,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        reference=agreement.reference,
        max_difference=agreement.max_difference,
        psnr=agreement.psnr,
        licence=entry.licence,
    )


def resolve(path: Path, network: str | None) -> tuple[Path, str]:
    """Return the weights file and its network, from the user's path and, if given, the name of the network.

    A folder is searched for file names in the catalog. Raises ModelError if none or several match.
    """
    if not path.exists():
        raise ModelError(_no_weights(path))
    network = network and full_name(network)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    known = {file: name for file in files for name in _names(file) if network in (None, name)}
    if len(known) == 1:
        return next(iter(known.items()))
    if network is not None and not path.is_dir():
        return path, network
    listed = ", ".join(f"{file.name} ({name})" for file, name in known.items()) or "none"
    raise ModelError(
        f"cannot tell from {path} which network it is; recognized files: {listed}; "
        "name the file, and choose a network with --network: a known one or, for custom weights, any name"
    )


def _no_weights(path: Path) -> str:
    """Return the message for a missing file, with the command that gets the weights if the name is that of a network."""
    entry = NETWORKS.get(full_name(str(path)))
    if entry is None or entry.ships:
        return f"{path}: no such file or folder; name a .pth, .safetensors or .param with weights"
    return f"{path}: is a network, not its weights: `{entry.remedy}`" + (
        f" gets it, or name the file: upres export {entry.file}" if entry.file else ""
    )


def _names(file: Path) -> list[str]:
    """Return the networks whose weights have this file name."""
    return [
        name
        for name, entry in NETWORKS.items()
        if file.name in (entry.file, f"{entry.wheel}.param", f"{name}.param", f"{name}.safetensors", f"{name}.pth")
    ]


def _place(folder: Path, graph: bytes, manifest: Manifest) -> Path:
    """Write both files under temporary names of this process, then rename them: the graph first, the manifest last."""
    target = folder / f"{manifest.network}.onnx"
    parts = [target.with_name(f"{target.stem}{suffix}.{os.getpid()}.part") for suffix in (".onnx", ".json")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            parts[0].write_bytes(graph)
            manifest.write(parts[1])
            parts[0].replace(target)
            parts[1].replace(target.with_name(f"{target.stem}.json"))
        finally:
            for part in parts:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise TargetError(f"{folder} cannot be written: {error}; name another folder with --out") from error
    return target
