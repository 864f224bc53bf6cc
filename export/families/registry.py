"""Registry of network families, and identification of the family that weights belong to.

Packages register families as entry points of the group `upres.families`.
"""

from importlib.metadata import entry_points

import numpy as np

from upres.engine.core.errors import ModelError
from upres.export.weights.read import Weights
from upres.export.weights.tensors import Array, Tensors

from .base import Family

GROUP = "upres.families"


def names() -> tuple[str, ...]:
    """List the names of all families without loading them."""
    return tuple(sorted(entry.name for entry in entry_points(group=GROUP)))


def identify(weights: Weights) -> tuple[Family, Tensors]:
    """Return the network that the weights belong to, with its sizes, and the tensors by name.

    Raises ModelError if no family recognizes them, or listing every tensor that is missing, unknown, of another shape or not
    finite.
    """
    for name in names():
        family = _load(name)
        tensors = _named(weights.tensors, family)
        if tensors is not None and (network := family.recognize(tensors)) is not None:
            _check(network, tensors)
            return network, tensors
    if not names():
        raise ModelError("no network family is registered; install upres again")
    listed = ", ".join(list(weights.tensors)[:5]) if isinstance(weights.tensors, dict) else "without names"
    raise ModelError(
        f"the weights belong to none of the families {', '.join(names())}; their {len(weights.tensors)} tensors: {listed} …"
    )


def _load(name: str) -> type[Family]:
    (entry,) = entry_points(group=GROUP, name=name)
    family: type[Family] = entry.load()
    return family


def _named(tensors: Tensors | list[Array], family: type[Family]) -> Tensors | None:
    """Return the tensors by name; None for a format without names if the family has no network with that many."""
    if isinstance(tensors, dict):
        return tensors
    keys = family.tensor_names(len(tensors))
    return dict(zip(keys, tensors, strict=True)) if len(keys) == len(tensors) else None


def _check(network: Family, tensors: Tensors) -> None:
    expected = network.shapes()
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in expected]
    problems += [
        f"{name} has numbers that are not finite" for name, tensor in tensors.items() if not np.isfinite(tensor).all()
    ]
    problems += [
        f"{name} is {tensors[name].shape}, expected {shape}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if problems:
        raise ModelError(f"the weights do not fit {network}: {'; '.join(problems)}")
