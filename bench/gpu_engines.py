"""Full-size FlashVSR, and support of a GPU by TensorRT for RTX, for bench/gpu.py."""

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_networks import X2

from upres.engine.core.errors import ModelError
from upres.engine.machine import nvidia
from upres.engine.models.manifest import find
from upres.engine.runtime.engines.manifest import Builder
from upres.export.trt import builder

if TYPE_CHECKING:
    from gpu import Options

FLASHVSR_SECONDS = 95  # less than the limit of its part in gpu.py, so that the results until then are reported
CAPABILITIES = ("SM80", "SM89", "SM120")  # an engine for the first may also run on later GPUs
SIZE = (64, 96)  # height and width of the engine's frames


def flashvsr(options: "Options") -> dict[str, Any]:
    """Run bench/flashvsr.py: PyTorch, eager and compiled, and ONNX Runtime."""
    if options.device != "cuda":
        return {"skipped": "its full size needs a GPU; bench/flashvsr.py --small runs on any machine"}
    if not options.graphs:
        return {
            "skipped": "needs --graphs FOLDER, an export that bench/flashvsr.py --graphs FOLDER writes in a few minutes"
        }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "flashvsr.json"
        command = [sys.executable, str(Path(__file__).with_name("flashvsr.py")), "--device", "cuda", "--steps", "3"]
        command += ["--graphs", options.graphs, "--out", str(out)]
        command += ["--register", options.register] if options.register else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FLASHVSR_SECONDS, check=False)
            problem = done.stderr[-2000:] if done.returncode else None
        except subprocess.TimeoutExpired:
            problem = f"not finished within {FLASHVSR_SECONDS} s; these are the results until then"
        results = json.loads(out.read_text())["results"] if out.exists() else {}
    return {"results": results, **({"problem": problem} if problem else {})}


def rtx(options: "Options") -> dict[str, Any]:
    """Build an included network's engine and check whether TensorRT for RTX accepts it here; "refused" is a valid result."""
    trt: Any = importlib.import_module("tensorrt_rtx")
    graph, _ = find(X2)
    driver, results = nvidia.driver(), {}
    for capability in CAPABILITIES[:1] if options.tiny else CAPABILITIES:
        with tempfile.TemporaryDirectory() as folder:
            engine = Path(folder) / "x2.engine"
            try:
                sizes = dict(zip(("height", "width"), SIZE, strict=True))
                builder.build(graph, sizes, engine, Builder("tensorrt-rtx", trt.__version__, capability))
            except ModelError as error:
                results[capability] = {"problem": str(error)}
                continue
            results[capability] = _verdict(trt, engine.read_bytes(), run=driver.problem is None)
    return {"tensorrt_rtx": trt.__version__, "driver": driver.problem or "there", "engines": results}


def _verdict(trt: Any, engine: bytes, *, run: bool) -> dict[str, Any]:  # noqa: ANN401 - the package has no types
    """Query an engine's validity, and load it if there is a driver; without one, loading is refused as well."""
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    validity, diagnostics = runtime.get_engine_validity(engine[: runtime.engine_header_size]), None
    if isinstance(validity, tuple):
        validity, diagnostics = validity
    loaded = run and runtime.deserialize_cuda_engine(engine) is not None
    return {
        "bytes": len(engine),
        "validity": str(validity).rpartition(".")[2],
        "diagnostics": None if diagnostics is None else int(diagnostics),
        "verdict": "accepted" if loaded else "refused",
    }
