"""The executor for this machine: one worker process per device."""

from upres.engine.machine import nvidia
from upres.engine.runtime import registry as runtimes

from .base import ExecutorOptions
from .memory_budget import usable_memory
from .pool.pool import Pool
from .sandbox.environment import QUALITY, RUNTIME
from .worker_process import WorkerProcess

VISIBLE = "CUDA_VISIBLE_DEVICES"


class LocalExecutor(Pool):
    """A pool of worker processes that is configured by ExecutorOptions."""

    def __init__(self, options: ExecutorOptions) -> None:
        devices, memory = device_environments(options.workers, options.runtime), options.memory_bytes
        count = len(devices)
        share = None if memory is None and count == 1 else (memory or usable_memory()) // max(1, count)
        command = ["--models", options.models, *(part for name in options.preload for part in ("--preload", name))]
        command += ["--nvenc"] if options.nvenc else []
        command += [] if share is None else ["--memory", str(share)]
        engine = {RUNTIME: options.runtime, QUALITY: options.quality}
        workers = [
            WorkerProcess(command, options.slots, options.live_slots, {**engine, **device}, str(number))
            for number, device in enumerate(devices)
        ]
        super().__init__(workers, options.on_failing)


def device_environments(workers: int | None, runtime: str) -> list[dict[str, str]]:
    """Return each worker's environment variables, which select its device; empty if there is only the CPU.

    workers: number of workers; None means one for each GPU that the runtime may use, or else one. If there are more workers than
    GPUs, the workers share the GPUs in turn.
    """
    gpus = _gpus(runtime)
    # An automatically selected runtime may be the CPU's, which two workers would then share.
    count = workers if workers is not None else max(1, len(gpus)) if runtime != runtimes.AUTO else 1
    return [{VISIBLE: gpus[number % len(gpus)]} if gpus else {} for number in range(count)]


def _gpus(runtime: str) -> tuple[str, ...]:
    on_gpu = runtime == runtimes.AUTO or runtimes.load(runtime).device == "cuda"
    return nvidia.visible() if on_gpu else ()
