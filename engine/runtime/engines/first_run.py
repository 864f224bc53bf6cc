"""First run of an engine: fixed inputs, whose outputs ONNX Runtime's CPU provider computed when the engine was built.

An engine may load and run but compute wrong results, because of a fault in the builder, the driver or the GPU. So it is run once
on known inputs before it processes any frame.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upres.engine.core.errors import ModelError
from upres.engine.runtime.base import Tensor

from .manifest import EngineManifest, first_run_file

RunGraph = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
VALUES = 1 << 16  # limit on the stored values of an output: states of FlashVSR take gigabytes
LEAST = {"fp32": 85.0, "fp16": 58.0, "bf16": 50.0}
"""Minimum PSNR in dB of outputs that are frames (uint8)."""
MOST = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 3e-2}
"""Maximum difference of other outputs: the norm of the difference over that of the output."""


def fixed_inputs(inputs: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> dict[str, Tensor]:
    """Return the inputs of a first run by name, from their shapes and types: pictures for uint8, noise for floating point."""
    return {
        name: _picture(shape) if dtype == np.uint8 else _noise(shape, dtype) for name, (shape, dtype) in inputs.items()
    }


def _picture(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return rising and falling ramps, (frames, height, width, 3) uint8. They use integers only, so they are reproducible."""
    frame, y, x, channel = np.ogrid[tuple(slice(size) for size in shape)]
    drawn: NDArray[np.uint8] = abs((3 * x + 5 * y + 40 * channel + 7 * frame) % 510 - 255).astype(np.uint8)
    return drawn


def _noise(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """Return reproducible, random-looking numbers from -1 to 1 that float16 represents exactly."""
    bits = (np.arange(np.prod(shape, dtype=np.int64), dtype=np.uint64) * 2654435761 >> np.uint64(16)) & np.uint64(255)
    return ((bits.astype(np.float32) - 127.5) / 128).astype(dtype).reshape(shape)


def write(engine: Path, outputs: Mapping[str, Tensor]) -> None:
    """Store the expected outputs of a first run: of each output at most VALUES values, evenly spaced."""
    values: dict[str, Any] = {name: _some(value) for name, value in outputs.items()}
    np.savez_compressed(first_run_file(engine), **values)


def compare(engine: Path, known: EngineManifest, inputs: Mapping[str, Tensor], run: RunGraph) -> None:
    """Run an engine once on its fixed inputs. Raises ModelError naming every output that differs from what was stored.

    inputs: from `fixed_inputs`. run: runs the engine, from inputs by name to outputs by name.
    """
    results = run(inputs)
    with np.load(first_run_file(engine)) as stored:
        pairs = {name: (stored[name], results.get(name)) for name in stored.files}
    judged = {name: _problem(*pair, known.contents.precision) for name, pair in pairs.items()}
    problems = [f"{name} {problem}" for name, problem in judged.items() if problem]
    if problems:
        raise ModelError(
            f"the engine {engine} does not compute what it was built for on this machine: {'; '.join(problems)}; "
            f"build it with: {known.command}; if the error persists, choose another runtime"
        )


def _problem(expected: Tensor, result: Tensor | None, precision: str) -> str | None:
    if result is None or (some := _some(result)).shape != expected.shape:
        return "is missing or of another size"
    difference = some.astype(np.float64) - expected
    if not np.isfinite(difference).all():
        return "has values that are not finite"
    if expected.dtype == np.uint8:
        error = float((difference**2).mean())
        psnr = 10 * np.log10(255**2 / error) if error else np.inf
        return None if psnr >= LEAST[precision] else f"is {psnr:.1f} dB from it, at least {LEAST[precision]:g} expected"
    share = float(np.linalg.norm(difference) / (np.linalg.norm(expected) or 1.0))
    return None if share <= MOST[precision] else f"differs by {share:.1g}, at most {MOST[precision]:g} expected"


def _some(value: Tensor) -> Tensor:
    """Return at most VALUES values, evenly spaced; floating-point ones as float32, so that any NumPy can store them."""
    flat = value.reshape(-1)
    some = flat[:: -(-flat.size // VALUES)]
    return some if some.dtype == np.uint8 else some.astype(np.float32)
