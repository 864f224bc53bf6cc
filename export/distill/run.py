"""The complete distillation: media, patches, training, export, evaluation. Every step resumes after an interruption."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.numpy import save_file

from upres.engine.core.errors import ModelError
from upres.engine.models import registry
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.runtime import registry as runtimes
from upres.export.exporter import Exported, export
from upres.export.families.srvgg import SRVGG
from upres.export.measurements import record as write

from . import patches, sources
from .evaluation import Measure, held_out, means, measure
from .student import tensors
from .training import Plan, train


@dataclass(frozen=True, slots=True)
class Student:
    """A network to train. teacher: the network that it imitates."""

    network: SRVGG
    teacher: str


TEACHER = "realesr-animevideov3-x4"
"""The teacher of the patches for both scales."""
MARGIN = 18
"""The teacher's halo, in pixels."""
STUDENTS = {
    "realesr-live-x2": Student(SRVGG(32, 7, 2, block=2), "realesr-animevideov3-x2"),
    "realesr-live-x4": Student(SRVGG(32, 7, 4), "realesr-animevideov3-x4"),
}


def distill(
    name: str,
    work: Path,
    out: Path,
    plan: Plan,
    *,
    shards: int,
    media: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[Exported, dict[str, dict[str, Measure]]]:
    """Train a student, resuming an interrupted run; writes its graph and manifest to `out` and all other files to `work`.

    media: a folder with the clips and pictures; by default one in `work`, filled from PyPI.
    Returns the export, and its measures on held-out media. Raises ModelError for an unknown name, and SourceError if media are
    missing.
    """
    if name not in STUDENTS:
        raise ModelError(f"{name!r} cannot be distilled; there are: {', '.join(STUDENTS)}")
    student = STUDENTS[name]
    media = media or work / "media"
    sources.gather(media, report)
    teacher = patches.ModelTeacher(registry.load(TEACHER)[0])
    training = {media / one.name: one for one in sources.TRAINING}
    folder = work / "patches"
    patches.make(folder, training, teacher, shards=shards, seed=plan.seed, margin=MARGIN, report=report)
    weights = train(
        student.network,
        patches.load(folder, shards, student.network.scale),
        plan,
        work / f"{name}.pt",
        report=report,
    )
    exported = _exported(name, weights, out)
    return exported, evaluate(exported, student.teacher, media, report)


def evaluate(
    exported: Exported, teacher: str, media: Path, report: Callable[[str], None]
) -> dict[str, dict[str, Measure]]:
    """Measure an exported student in float32 on held-out media."""
    frames = held_out(media, {one.name: one for one in sources.HELD_OUT})
    model = PerFrameModel(runtimes.choose("onnxruntime").load(exported.graph, "fp32"), exported.manifest)
    results = measure(
        frames,
        patches.ModelTeacher(registry.load(teacher, quality="exact")[0]),
        {exported.manifest.network: patches.ModelTeacher(model)},
    )
    for name, measures in {**results, "mean": means(results)}.items():
        for method, value in measures.items():
            report(f"{name:24} {method:18} {value.psnr:6.2f} dB   gradients {value.gradients:.3f}")
    return results


def record(path: Path, name: str, results: dict[str, dict[str, Measure]], plan: Plan, shards: int) -> None:
    """Add a student's measures to a JSON file, with its training plan, the machine and the versions."""
    measured = {
        file: {method: asdict(value) for method, value in measures.items()} for file, measures in results.items()
    }
    measured["mean"] = {method: asdict(value) for method, value in means(results).items()}
    write(path, name, {"plan": asdict(plan), "patches": shards * patches.SHARD, "held_out": measured})


def _exported(name: str, weights: dict[str, torch.Tensor], out: Path) -> Exported:
    with tempfile.TemporaryDirectory(prefix="upres-distill-") as place:
        file = Path(place) / f"{name}.safetensors"
        save_file(tensors(weights), file)
        return export(file, name, out)
