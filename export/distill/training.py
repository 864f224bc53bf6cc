"""Training of a student: seeded, resumable from checkpoints, on a CPU or a GPU."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from upres.export.families.srvgg import SRVGG

from .patches import Patches, batches
from .soap import SOAP
from .student import Student

EDGE = 4
"""Input pixels at the edges of a crop that are not compared, because the student does not see beyond the crop."""
GRADIENT = 0.03
"""Weight of the gradients' difference relative to the colors': without it, the student is softer than its teacher."""
REPEATED = 0.3
"""Weight of the difference that repeats with the network's blocks of output pixels: without it, edges are followed by dots."""
DECAY = 0.03
"""Decay of the kernels' weights, relative to the learning rate. It keeps them small enough for int8."""
SMALL = 1e-8
"""Added under the root, which would not be differentiable for a crop without any error."""
AVERAGED = 0.998
"""Decay of the averaged weights per step; the averaged weights are exported."""
WARMUP = 100
"""Steps in which the learning rate rises."""
REPORT_STEPS = 200
"""Steps between two reports of the mean loss."""
FALL = 0.25
"""Last part of the steps, in which the learning rate falls. Before it, a run can be resumed with more steps than planned."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Parameters of a training run.

    side: of a crop, in input pixels. rate: maximum learning rate. every: seconds between checkpoints. bfloat16: convolve in
    bfloat16 on float32 weights, which is faster if the CPU or GPU supports it.
    """

    steps: int
    seed: int = 1
    batch: int = 6
    side: int = 64
    rate: float = 3e-3
    every: float = 120.0
    device: str = "cpu"
    threads: int = 1
    bfloat16: bool = False


def train(
    network: SRVGG,
    patches: Patches,
    plan: Plan,
    checkpoint: Path,
    *,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, torch.Tensor]:
    """Train for the plan's steps, resuming from the checkpoint if there is one; returns the averaged weights.

    The same plan on the same CPU gives the same bytes, even after interruptions. On a GPU, PyTorch's kernels may differ.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    student = Student(network).to(plan.device)
    optimizer = SOAP(student.parameters(), plan.rate)
    averaged = {name: value.clone() for name, value in student.state_dict().items()}
    step = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=plan.device)
        student.load_state_dict(saved["student"])
        optimizer.load_state_dict(saved["optimizer"])
        averaged, step = saved["averaged"], saved["step"]
    feed = batches(patches, plan.batch, plan.side, network.scale, plan.seed, step)
    saved_at, losses = time.monotonic(), list[float]()
    while step < plan.steps:
        for group in optimizer.param_groups:
            group["lr"] = rate(plan, step)
        losses.append(_step(student, optimizer, [torch.from_numpy(part) for part in next(feed)], plan))
        step += 1
        _decay(student, rate(plan, step - 1) * DECAY)
        _average(averaged, student, step)
        if step % REPORT_STEPS == 0:
            report(f"step {step} of {plan.steps}: loss {fmean(losses):.5f}")
            losses.clear()
        if step == plan.steps or time.monotonic() - saved_at > plan.every:
            _save(checkpoint, student, optimizer, averaged, step)
            saved_at = time.monotonic()
    return averaged


def rate(plan: Plan, step: int) -> float:
    """Return the learning rate of a step: it rises, is constant, and falls linearly at the end."""
    return plan.rate * min(1.0, (step + 1) / WARMUP, (plan.steps - step) / (FALL * plan.steps))


def _step(
    student: Student,
    optimizer: torch.optim.Optimizer,
    batch: list[torch.Tensor],
    plan: Plan,
) -> float:
    frame, target = (part.to(plan.device).permute(0, 3, 1, 2).float().contiguous() / 255 for part in batch)
    with torch.autocast(plan.device, torch.bfloat16, enabled=plan.bfloat16):
        upscaled = student(frame).float()
    edge = EDGE * student.scale
    inner = (..., slice(edge, -edge), slice(edge, -edge))
    loss = difference(upscaled[inner], target[inner], student.scale * student.block)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 0.5)
    optimizer.step()
    return float(loss.detach())


def _average(averaged: dict[str, torch.Tensor], student: Student, step: int) -> None:
    """Update the moving average of the weights: over the last 500 steps, or a tenth of all steps at the beginning."""
    share = max(1 - AVERAGED, 1 / (1 + step / 10))
    with torch.no_grad():
        for name, value in student.state_dict().items():
            averaged[name].lerp_(value, share)


def _decay(student: Student, share: float) -> None:
    with torch.no_grad():
        for value in student.parameters():
            if value.ndim == 4:
                value.mul_(1 - share)


def difference(upscaled: torch.Tensor, target: torch.Tensor, period: int) -> torch.Tensor:
    """Compute the loss: the root mean square error of each crop, as in PSNR, and the differences of gradients and of patterns.

    period: of patterns, in pixels; the crop is a multiple of it.
    """
    error = upscaled - target
    colors = (error.square().mean(dim=(1, 2, 3)) + SMALL).sqrt().mean()
    gradients = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return colors + GRADIENT * gradients + REPEATED * _repeated(error, period)


def _repeated(error: torch.Tensor, period: int) -> torch.Tensor:
    """Return the mean of the error that repeats with a period: its part that four by four blocks of pixels have in common."""
    blocks = nn.functional.avg_pool2d(nn.functional.pixel_unshuffle(error, period), 4, 2)
    phases = blocks.unflatten(1, (error.shape[1], period**2))
    return (phases - phases.mean(2, keepdim=True)).abs().mean()


def _save(
    path: Path, student: Student, optimizer: torch.optim.Optimizer, averaged: dict[str, torch.Tensor], step: int
) -> None:
    """Write a checkpoint to a temporary file, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    state = {"student": student.state_dict(), "optimizer": optimizer.state_dict(), "averaged": averaged, "step": step}
    torch.save(state, part)
    part.replace(path)
