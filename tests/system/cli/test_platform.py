"""Without Linux- and macOS-only modules: commands that do not need them work, the others fail with one message."""

import subprocess
import sys

import media
import pytest
import referee
from paths import ROOT

ELSEWHERE = """
import os, signal, socket, sys
# Libraries that adapt to their platform have done so:
import asyncio, concurrent.futures.process, multiprocessing.pool, tempfile
import filelock, openvino, onnxruntime, platformdirs, psutil, rich.console
for module, name in ((signal, "SIGHUP"), (signal, "SIGKILL"), (os, "fork"), (os, "sched_getaffinity"), (os, "geteuid"),
                     (os, "getuid"), (os, "killpg"), (socket, "AF_UNIX")):
    delattr(module, name)
for name in ("fcntl", "resource", "pwd", "grp", "pty"):
    sys.modules[name] = None  # importing it raises ImportError
from upres.service.cli.main import main
main()
"""


def upres(*args):
    command = [sys.executable, "-c", ELSEWHERE, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "args", [["--help"], ["models"], ["doctor"], ["bench", "--help"], ["stream", "--help"]], ids=" ".join
)
def test_commands_start(args):
    result = upres(*args)
    assert result.returncode == 0, result.stderr


def test_a_clip_is_upscaled(tmp_path):
    source = media.clip(tmp_path / "in.mp4", "-c:v", "libx264", picture="testsrc2=size=32x24:rate=5:duration=1")
    result = upres(source, tmp_path / "out.mp4", "--model", "RealESRGAN_Vid_x2")
    assert result.returncode == 0, result.stderr
    assert (referee.size(tmp_path / "out.mp4"), referee.count(tmp_path / "out.mp4")) == ((64, 48), 5)


WITHOUT_SERVICE = """
import sys
for name in ("fastapi", "grpc", "pydantic_settings", "sqlalchemy", "uvicorn"):
    sys.modules[name] = None
from upres.service.cli.main import main
main()
"""


@pytest.mark.parametrize("args", [["serve"], ["keys", "list"], ["jobs", "--key", "x"]], ids=" ".join)
def test_without_the_packages_of_the_service_its_commands_say_how_to_get_them(args):
    # -P: without the current folder, in which setuptools leaves metadata that lacks the origin of the installation.
    python = [sys.executable, "-P", "-c", WITHOUT_SERVICE]
    result = subprocess.run([*python, *args], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert f"pip install '{ROOT}[service]'" in result.stderr  # tests run on an installation of this folder


def test_a_server_is_refused_in_one_message():
    result = upres("serve")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1) and "Linux" in result.stderr
