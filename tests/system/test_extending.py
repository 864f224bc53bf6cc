"""Extensions without a changed line of upres: a separate package, found like the built-in ones, processes a clip.

`install` adds such a package, a module and its entry points, to the import path of `upres` and its workers. The built-in ones are
registered in the same way.
"""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import av
import media
import numpy as np
import pytest
import referee
from paths import SAMPLE
from safetensors.numpy import save_file
from serving import KEY, Rpc, free_port

from upres.v2 import upscale_pb2 as pb

UPRES = Path(sys.executable).with_name("upres")


def install(folder: Path, module: str, code: str, **entry_points: str) -> dict[str, str]:
    """Install a one-module package. entry_points: group to `name = module:object`. Returns the environment that contains it."""
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (folder / f"{module}.py").write_text(code)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    groups = [f"[upres.{group}]\n{line}\n" for group, line in entry_points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(groups))
    return {**os.environ, "PYTHONPATH": str(folder)}


def upres(environment: dict[str, str], *arguments: object) -> str:
    """Run the command line; return its combined output."""
    done = subprocess.run(
        [UPRES, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


TOY_RUNTIME = """
import numpy as np

class Toy:
    name, device, preference = "toy", "cpu", 0

    def unavailable(self):
        return None

    def precisions(self):
        return ("fp32",)

    def load(self, path, precision):
        return Grey()

class Grey:
    report, memory_factor = "toy runtime", 1.0

    def run(self, feeds):
        _, height, width, _ = feeds["frame"].shape
        return {"upscaled": np.full((1, 4 * height, 4 * width, 3), 77, np.uint8)}
"""


def test_a_runtime(tmp_path):
    environment = install(tmp_path, "toy_runtime", TOY_RUNTIME, runtimes="toy = toy_runtime:Toy")
    target = tmp_path / "out.mkv"
    output = upres(environment, SAMPLE, target, "--runtime", "toy", "--lossless", "--duration", "0.1")
    assert "on toy runtime" in output
    with av.open(str(target)) as result:
        frames = [frame.to_ndarray(format="rgb24") for frame in result.decode(video=0)]
    assert frames and all(np.all(frame == 77) for frame in frames)
    assert "toy" in upres(environment, "doctor")
    assert "toy" in upres(environment, "run", "--help")


def test_an_unknown_runtime_is_refused_with_those_there_are(tmp_path):
    done = subprocess.run(
        [UPRES, SAMPLE, tmp_path / "out.mp4", "--runtime", "toy"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "auto, cuda, ncnn, ncnn-vulkan, onnxruntime, openvino" in done.stderr


TOY_FAMILY = """
from dataclasses import dataclass
from typing import ClassVar

from upres.export.families.base import Family
from upres.export.families.layers import shuffle
from upres.export.graphs.frame_writer import FrameGraphWriter

@dataclass(frozen=True)
class Toy(Family):
    '''One convolution and a pixel shuffle.'''

    name: ClassVar = "toy"
    scale: int

    @classmethod
    def recognize(cls, tensors):
        return cls(round((len(tensors["toy.bias"]) / 3) ** 0.5)) if "toy.bias" in tensors else None

    def shapes(self):
        return {"toy.weight": (3 * self.scale**2, 3, 3, 3), "toy.bias": (3 * self.scale**2,)}

    def write(self, tensors, scale, name):
        writer = FrameGraphWriter(name, scale)
        x = writer.conv(writer.frame(), "toy", tensors["toy.weight"], tensors["toy.bias"])
        return writer.finish(writer.op("DepthToSpace", writer.levels(x), blocksize=scale, mode="CRD"))

    def forward(self, planes, layers):
        return shuffle(layers.conv(planes, "toy"), self.scale)
"""


def test_a_network_family(tmp_path):
    """Weights of an external family, exported under a new name, upscale a clip; this family repeats pixels."""
    scale = 3
    environment = install(tmp_path, "toy_family", TOY_FAMILY, families="toy = toy_family:Toy")
    environment["UPRES_CACHE"] = str(tmp_path / "cache")
    kernel = np.zeros((3, scale**2, 3, 3, 3), np.float32)
    for color in range(3):
        kernel[color, :, color, 1, 1] = 1
    weights = {"toy.weight": kernel.reshape(-1, 3, 3, 3), "toy.bias": np.zeros(3 * scale**2, np.float32)}
    save_file(weights, tmp_path / "toy.safetensors")
    assert "identical" in upres(environment, "export", tmp_path / "toy.safetensors", "--network", "my-toy")
    target = tmp_path / "out.mkv"
    upres(environment, SAMPLE, target, "--model", "my-toy", "--lossless", "--duration", "0.1")
    with av.open(str(target)) as result:
        frames = [frame.to_ndarray(format="rgb24") for frame in result.decode(video=0)]
    assert frames
    for frame in frames:
        np.testing.assert_array_equal(frame, frame[::scale, ::scale].repeat(scale, 0).repeat(scale, 1))
        assert frame.std() > 20


TOY_SOURCE = """
from pathlib import Path

from upres.engine.core.errors import SourceError
from upres.engine.decode.source import Opened

class Toy:
    '''A camera whose connection breaks off: toy://FOLDER has one file for each connection.'''

    live, reconnect = True, 1

    def __init__(self):
        self.left = None

    def open(self, source, *, spool):
        if self.left is None:
            self.left = sorted(Path(source.removeprefix("toy://")).iterdir())
        if not self.left:
            raise SourceError("the camera is off")
        file = self.left.pop(0).open("rb")
        return Opened(file, close=file.close)
"""


def test_a_source(tmp_path):
    """A source with its own URL scheme is read over several connections as one clip, although its clock restarts with each."""
    environment = install(tmp_path, "toy_source", TOY_SOURCE, sources="toy = toy_source:Toy")
    camera = tmp_path / "camera"
    camera.mkdir()
    for number in range(2):
        media.clip(camera / f"{number}.ts", "-c:v", "libx264", "-c:a", "aac", sound=media.SOUND)
    target = tmp_path / "out.mp4"
    upres(environment, f"toy://{camera}", target)
    shown = referee.video(target)
    assert len(shown.times) == 20
    assert shown.end - shown.times[0] == 2
    assert referee.audio(target).end == pytest.approx(2, abs=0.1)


def test_an_unknown_kind_of_source_is_refused_with_those_there_are(tmp_path):
    done = subprocess.run(
        [UPRES, "toy://camera", tmp_path / "out.mp4"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (
        done.returncode == 3
        and "cannot read from toy addresses; supported are hls+http, hls+https, http, https, rtmp, " in done.stderr
    )


TOY_EXECUTOR = """
import asyncio
from pathlib import Path

from upres.engine import load, upscale
from upres.service.domain.spec import Spec
from upres.service.storage.job_folder import JobFolder

class Toy:
    ready, unavailable, live_room, shortages = True, {}, 0, ()

    def __init__(self, options):
        self.tasks = {}

    @property
    def room(self):
        return 1 - len(self.tasks)

    async def start(self, on_report):
        self.on_report = on_report

    async def run(self, order):
        self.tasks[order.request_id] = asyncio.create_task(self.attempt(order))

    async def attempt(self, order):
        folder, spec = JobFolder(Path(order.folder)), Spec.from_json(order.spec)
        model, _ = load(spec.model)
        progress = await asyncio.to_thread(upscale, folder.source, folder.joined, spec.job(model))
        totals = {"frames": progress.frames_out, "seconds": progress.seconds, "duration_seconds": 77}
        del self.tasks[order.request_id]
        await self.on_report(order.request_id, {"report": "joined", "totals": totals})

    async def cancel(self, request_id):
        pass

    async def pause(self):
        pass

    async def resume(self):
        pass

    async def stop(self):
        pass
"""


@contextmanager
def serving(environment, state, **settings):
    """Run `upres serve` on its own ports; yield gRPC's address."""
    port = free_port()
    settings |= {"state": state, "api_key": KEY, "grpc_port": port, "http_port": free_port()}
    environment |= {f"UPRES_{name.upper()}": str(value) for name, value in settings.items()}
    with subprocess.Popen([UPRES, "serve"], env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert any(line.startswith("gRPC on") for line in server.stdout)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def test_an_executor(tmp_path, clip):
    """A server runs attempts in its own process, solely because a package is installed."""
    environment = install(tmp_path, "toy_executor", TOY_EXECUTOR, executors="toy = toy_executor:Toy")
    with serving(environment, tmp_path / "state", executor="toy") as target, Rpc(target) as rpc:
        config = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", preset="ultrafast")
        job = rpc.create(clip("a.mp4", 1).read_bytes(), config)
        *_, last = rpc.watch(job.request_id)
        assert last.job.status == pb.Job.STATUS_DONE and last.job.totals.duration_seconds == 77
        (tmp_path / "out.mp4").write_bytes(rpc.file(job.request_id))
    with av.open(str(tmp_path / "out.mp4")) as result:
        assert [(frame.width, frame.height) for frame in result.decode(video=0)] == [(128, 96)] * 10


def test_an_unknown_executor_is_refused_with_those_there_are(tmp_path):
    environment = {**os.environ, "UPRES_STATE": str(tmp_path), "UPRES_EXECUTOR": "toy"}
    done = subprocess.run([UPRES, "serve"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "no executor 'toy'; there are local" in done.stderr
