"""Reader of all weights of a small FlashVSR in one `.npz`, the format of numeric references."""

import zipfile
from pathlib import Path

import numpy as np

from upres.engine.core.errors import ModelError
from upres.export.weights.tensors import Tensors

from .configuration import Configuration
from .weight_set import WeightSet, check


def read_npz(path: Path, *, heads: int | None = None) -> WeightSet:
    """Read all parts: keys prefixed dit., lq11. (or lq.) and tc., and `context`, the prompt.

    heads: number of attention heads, if a head does not have 128 channels. Raises ModelError for any other file.
    """
    parts: dict[str, Tensors] = {"dit": {}, "lq11": {}, "lq": {}, "tc": {}}
    try:
        with path.open("rb") as raw, np.load(raw) as file:  # NumPy does not close a file that it cannot read
            for key in file.files:
                part, _, name = key.partition(".")
                if part in parts:
                    parts[part][name] = file[key]
            prompt = file["context"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} contains no FlashVSR weights: {error}") from error
    lq = parts["lq11"] or parts["lq"]
    configuration = _configuration_of(parts["dit"], lq, parts["tc"], heads=heads)
    weights = WeightSet(configuration, parts["dit"], lq, parts["tc"], prompt, origin="random")
    check(weights)
    return weights


def _configuration_of(dit: Tensors, lq: Tensors, tc: Tensors, *, heads: int | None) -> Configuration:
    """Return the sizes of the weights; raises ModelError if a tensor needed for this is missing."""
    try:
        dim = dit["patch_embedding.weight"].shape[0]
        first, second, third, fourth = (tc[f"decoder.{index}.weight"].shape[0] for index in (1, 10, 16, 22))
        return Configuration(
            dim=dim,
            heads=heads or dim // 128,
            layers=len({key.split(".")[1] for key in dit if key.startswith("blocks.")}),
            ffn=dit["blocks.0.ffn.0.weight"].shape[0],
            text_dim=dit["text_embedding.0.weight"].shape[1],
            freq_dim=dit["time_embedding.0.weight"].shape[1],
            projector=(lq["conv1.weight"].shape[0], lq["conv2.weight"].shape[0]),
            decoder=(first, second, third, fourth),
        )
    except KeyError as error:
        raise ModelError(f"these are not FlashVSR weights: the tensor {error} is missing") from error
