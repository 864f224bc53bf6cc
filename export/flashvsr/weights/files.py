"""Reader of FlashVSR's public weight files, under their original or repacked names, safe and one tensor at a time."""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from upres.engine.core.errors import ModelError
from upres.engine.models.flashvsr.manifest import Version
from upres.export.weights.tensors import Array

from .configuration import Configuration
from .weight_set import LazyTensors, WeightSet, check

HUB = "Hugging Face, JunhaoZhuang/FlashVSR-v1.1 (or JunhaoZhuang/FlashVSR for v1)"
RELEASED = Configuration()  # the only size that was trained
DIT_BYTES = 5_676_070_392  # size of the original file, the only one with a published size
REPOSITORY = "the git repository OpenImagingLab/FlashVSR, examples/WanVSR/prompt_tensor/"


@dataclass(frozen=True, slots=True)
class Source:
    """A weight file. names: the original first, then those of repacks. anchor: a key in the file that reveals a prefix."""

    names: tuple[str, ...]
    origin: str
    anchor: str = ""

    def find(self, folder: Path) -> Path | None:
        """Return the file in a folder, or None if it is missing."""
        return next((folder / name for name in self.names if (folder / name).is_file()), None)


SOURCES = {
    "dit": Source(
        (
            "diffusion_pytorch_model_streaming_dmd.safetensors",
            "FlashVSR1_1.safetensors",
            "Wan2_1-T2V-1.1_3B_FlashVSR_fp32.safetensors",
        ),
        HUB,
        anchor="patch_embedding.weight",
    ),
    "lq": Source(("LQ_proj_in.ckpt", "LQ_proj_in.safetensors"), HUB, anchor="linear_layers.0.weight"),
    "tc": Source(("TCDecoder.ckpt", "TCDecoder.safetensors"), HUB, anchor="decoder.1.weight"),
    "prompt": Source(("posi_prompt.pth", "Prompt.safetensors"), REPOSITORY),
}


class FileTensors(LazyTensors):
    """The tensors of a .safetensors file, or of a pickle with tensors only; a prefix before the anchor is removed."""

    def __init__(self, path: Path, anchor: str = "") -> None:
        try:
            self._tensors = _open(path)
        except Exception as error:
            raise ModelError(f"{path} cannot be read as tensors: {str(error).splitlines()[0]}") from error
        prefix = next((key[: -len(anchor)] for key in self._tensors if anchor and key.endswith(anchor)), "")
        self._keys = {key.removeprefix(prefix): key for key in self._tensors}

    def __getitem__(self, key: str) -> Array:
        """Read a tensor as float32."""
        array: Array = self._tensors[self._keys[key]][:].detach().float().numpy()
        return array

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        tensor = self._tensors[self._keys[key]]
        return tuple(tensor.shape if isinstance(tensor, torch.Tensor) else tensor.get_shape())

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def read_folder(folder: Path, version: Version | None = None) -> WeightSet:
    """Read the trained weights in a folder; raises ModelError listing every missing or wrong file, tensor and option."""
    paths = {part: source.find(folder) for part, source in SOURCES.items()}
    problems = [
        f"{SOURCES[part].names[0]} is missing (from {SOURCES[part].origin})"
        for part, path in paths.items()
        if path is None
    ]
    original = paths["dit"]
    if original and original.name == SOURCES["dit"].names[0] and (size := original.stat().st_size) != DIT_BYTES:
        problems.append(f"{original.name} has {size} bytes, expected {DIT_BYTES}: download it again")
    version = version or _version_of(folder, *(path for path in paths.values() if path))
    if version is None:
        problems.append("v1 and v1.1 have the same shapes: choose one with --weights-version v1.1 or v1")
    if problems or version is None:
        raise ModelError(f"the weights of FlashVSR in {folder} cannot be used: " + "; ".join(problems))
    dit, lq, tc, prompt = (FileTensors(path, SOURCES[part].anchor) for part, path in paths.items() if path)
    text = prompt[next(iter(prompt))]
    weights = WeightSet(RELEASED, dit, lq, tc, text.reshape(-1, *text.shape[-2:]), version)
    check(weights)
    return weights


def _version_of(*paths: Path) -> Version | None:
    """Guess the release from the names of folder and files; only v1.1 appears in names."""
    names = " ".join(path.resolve().name for path in paths)
    if re.search(r"FlashVSR[-_ ]?v?1[._]1", names):
        return "v1.1"
    return None


def _open(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        file: Any = safe_open(path, framework="pt")
        return {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - the file is not a mapping
    # The format before PyTorch 1.6 is not a zip and cannot be mapped.
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    if isinstance(loaded, torch.Tensor):
        return {"prompt": loaded}
    if not isinstance(loaded, dict):
        raise TypeError(f"it contains a {type(loaded).__name__}, expected tensors by name")
    tensors = dict(loaded.get("state_dict", loaded))
    if others := [str(key) for key, value in tensors.items() if not isinstance(value, torch.Tensor)]:
        raise TypeError(f"it contains values that are not tensors: {', '.join(others)}")
    return tensors
