"""The executor on this machine: worker processes, one a device."""

from collections.abc import Callable, Sequence
from typing import Self

from upres.engine.machine import nvidia
from upres.engine.runtime import registry as runtimes

from .base import ExecutorOptions
from .memory_budget import usable_memory
from .pool.pool import Pool
from .sandbox.environment import QUALITY, RUNTIME
from .worker_process import WorkerProcess

VISIBLE = "CUDA_VISIBLE_DEVICES"


class LocalExecutor(Pool):
    """A pool of worker processes, by the options of the same names."""

    def __init__(
        self,
        *,
        workers: int | None,
        slots: int,
        models: str,
        live_slots: int = 1,
        runtime: str = "auto",
        quality: str = "high",
        memory_bytes: int | None = None,
        preload: Sequence[str] = (),
        nvenc: bool = False,
        on_failing: Callable[[str, Exception], None] = lambda name, error: None,
    ) -> None:
        devices = one_each(workers, runtime)
        count = len(devices)
        share = None if memory_bytes is None and count == 1 else (memory_bytes or usable_memory()) // max(1, count)
        command = ["--models", models, *(part for name in preload for part in ("--preload", name))]
        command += ["--nvenc"] if nvenc else []
        command += [] if share is None else ["--memory", str(share)]
        engine = {RUNTIME: runtime, QUALITY: quality}
        workers_ = [
            WorkerProcess(command, slots, live_slots, {**engine, **device}, str(number))
            for number, device in enumerate(devices)
        ]
        super().__init__(workers_, on_failing)

    @classmethod
    def from_options(cls, options: ExecutorOptions) -> Self:
        """Make the executor that is registered as `local`."""
        return cls(
            workers=options.workers,
            slots=options.slots,
            models=options.models,
            live_slots=options.live_slots,
            runtime=options.runtime,
            quality=options.quality,
            memory_bytes=options.memory_bytes,
            preload=options.preload,
            nvenc=options.nvenc,
            on_failing=options.on_failing,
        )


def one_each(workers: int | None, runtime: str) -> list[dict[str, str]]:
    """Return the variables of each worker that say which device is its own; empty ones where the CPU is all there is.

    workers: how many; None is one for each GPU that the runtime may use, or one. More of them than GPUs share these in turn.
    """
    gpus = _gpus(runtime)
    # Where the runtime is found by itself, it may be the CPU: two workers would share that.
    count = workers if workers is not None else max(1, len(gpus)) if runtime != runtimes.AUTO else 1
    return [{VISIBLE: gpus[number % len(gpus)]} if gpus else {} for number in range(count)]


def _gpus(runtime: str) -> tuple[str, ...]:
    on_gpu = runtime == runtimes.AUTO or runtimes.load(runtime).device == "cuda"
    return nvidia.visible() if on_gpu else ()
