"""Reader of ncnn's `.param` and `.bin` without ncnn. It supports the layers that RealESRGAN uses, and executes nothing.

Format: ncnn's wiki, "param and model file structure", and the tags in its `modelbin.cpp`.
"""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from upres.engine.core.errors import ModelError

from .tensors import Array

MAGIC = "7767517"
FP16 = 0x01306B47
UNSUPPORTED = {0x000D4B38: "int8", 0x0002C056: "scaled fp32"}
WEIGHTLESS = frozenset({"Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "PixelShuffle", "Reorg", "ReLU"})
WEIGHTED = frozenset({"Convolution", "PReLU"})


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of a `.param`: the layer's type, its name and its numbered settings, without arrays."""

    type: str
    name: str
    settings: dict[int, float]

    def setting(self, number: int, default: int = 0) -> int:
        """Return the setting with this number as an integer."""
        return int(self.settings.get(number, default))


def read(param: Path) -> list[Array]:
    """Read the tensors of `X.param` and the `X.bin` next to it, in the order of the layers: ncnn does not name tensors.

    Weights keep the precision they are stored in: float16, or float32 (also for indices into a table of 256 values).
    Raises ModelError listing every problem: another format, unknown layers, missing or superfluous bytes.
    """
    layers = read_layers(param)
    binary = param.with_suffix(".bin")
    try:
        data = binary.read_bytes()
    except OSError as error:
        raise ModelError(f"{param} needs its weights in {binary.name} next to it: {error}") from error
    return _Bin(binary, data).read(layers)


def read_layers(param: Path) -> list[Layer]:
    """Read the layers of a `.param` in order; raises ModelError for another format or unknown layers."""
    try:
        lines = param.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{param} cannot be read as an ncnn .param: {error}") from error
    if not lines or lines[0].strip() != MAGIC:
        raise ModelError(f"{param} is not a text .param of ncnn: its first line must be {MAGIC}")
    try:
        count = int(lines[1].split()[0])
        layers = [_layer(line.split()) for line in lines[2:] if line.strip()]
    except (IndexError, ValueError) as error:
        raise ModelError(f"{param} has a line that is not `type name inputs outputs …`: {error}") from error
    problems = [] if count == len(layers) else [f"its header states {count} layers, but it has {len(layers)}"]
    if unknown := sorted({layer.type for layer in layers} - WEIGHTLESS - WEIGHTED):
        problems.append(f"layers that RealESRGAN does not have: {', '.join(unknown)}")
    if problems:
        raise ModelError(f"{param}: {'; '.join(problems)}")
    return layers


def _layer(words: list[str]) -> Layer:
    first = 4 + int(words[2]) + int(words[3])
    pairs = (word.split("=", 1) for word in words[first:])
    settings = {int(key): float(value) for key, value in pairs if int(key) >= 0}
    if not all(map(isfinite, settings.values())):
        raise ValueError(f"{words[1]} has a setting that is not finite")
    return Layer(words[0], words[1], settings)


class _Bin:
    """A cursor over the bytes of a `.bin`."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._at = 0

    def read(self, layers: list[Layer]) -> list[Array]:
        """Read the tensors of all layers in order; every byte must be used."""
        tensors: list[Array] = []
        for layer in layers:
            if layer.type == "Convolution":
                tensors += self._convolution(layer)
            elif layer.type == "PReLU":
                tensors.append(self._read_numbers("<f4", layer.setting(0), layer))
        if remaining := len(self._data) - self._at:
            raise ModelError(
                f"{self._path} has {remaining} bytes more than its .param uses; the two files do not belong together"
            )
        return tensors

    def _convolution(self, layer: Layer) -> list[Array]:
        outputs, width = layer.setting(0), layer.setting(1)
        height, size = layer.setting(11, width), layer.setting(6)
        if not layer.setting(5) or min(outputs, width, height) < 1 or size % (outputs * width * height):
            raise ModelError(f"{self._path}: the settings of {layer.name} are not those of a convolution with a bias")
        weight = self._tagged(size, layer).reshape(outputs, -1, height, width)
        return [weight, self._read_numbers("<f4", outputs, layer)]

    def _tagged(self, size: int, layer: Layer) -> Array:
        """Read weights after a tag that states how they are stored; each block is padded to a multiple of 4 bytes."""
        tag = int(self._read_numbers("<u4", 1, layer)[0])
        if tag in UNSUPPORTED:
            raise ModelError(
                f"{self._path}: {layer.name} is stored as {UNSUPPORTED[tag]}; use the fp16 or fp32 weights"
            )
        if tag == 0:
            return self._read_numbers("<f4", size, layer)
        if tag == FP16:
            return self._read_numbers("<f2", size + size % 2, layer)[:size]
        table = self._read_numbers("<f4", 256, layer)
        return np.take(table, self._read_numbers("u1", size + -size % 4, layer)[:size])

    def _read_numbers(self, dtype: str, count: int, layer: Layer) -> Array:
        end = self._at + np.dtype(dtype).itemsize * count
        if count < 0:
            raise ModelError(f"{self._path}: the settings of {layer.name} ask for {count} numbers")
        if end > len(self._data):
            raise ModelError(
                f"{self._path} is truncated within {layer.name}: {end} bytes needed, it has {len(self._data)}"
            )
        values = np.frombuffer(self._data, dtype, count, self._at)
        self._at = end
        return values
