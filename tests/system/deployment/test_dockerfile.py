"""The Dockerfile and compose.yaml name only things that exist; as soak tests, podman builds the images and uses them."""

import json
import os
import re
import shutil
import subprocess
import time
import tomllib
from importlib.util import find_spec

import pytest
import referee
import yaml
from paths import ROOT, SAMPLE

from upres.engine.runtime import registry as runtimes
from upres.service.server import settings

DOCKERFILE = (ROOT / "Dockerfile").read_text()
BASE = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)[1]
STAGES = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
TARGETS = ["cpu", "cuda", "tensorrt", "jetson"]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SETTINGS = {f"UPRES_{name.upper()}" for name in settings.Settings.model_fields}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
PODMAN = ["podman", "--runtime", "runc"]
HEALTH = json.loads(re.search(r"^HEALTHCHECK.*?CMD (\[.*?\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)[1])
SERVER_SECONDS = 180
LIMITS = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]  # podman's defaults exceed what a machine may allow


def environment(text):
    """Return the variables that the ENV lines of a part of the Dockerfile set."""
    lines = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
    return dict(pair.split("=", 1) for line in lines for pair in line.split())


def test_what_it_names_exists():
    """Its variables are settings, the commands it runs exist, and the files it copies are in the build context."""
    names = {*re.findall(r"UPRES_[A-Z_]*[A-Z]", DOCKERFILE + (ROOT / "compose.yaml").read_text())}
    assert names and names <= {*SETTINGS, "UPRES_CACHE"}
    assert HEALTH[:2] == ["python3", "-m"] and find_spec(HEALTH[2])
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert all((ROOT / line[1:]).exists() for line in lines if line.startswith("!"))


def test_every_target_is_a_stage_and_the_last_one_is_for_any_machine():
    names = [name for _, name in STAGES]
    assert {*TARGETS} <= {*names} and names[-1] == "cpu" and len({*names}) == len(names)
    before = {"${BASE}"}
    for base, name in STAGES:
        assert base in before, f"{name} is made from {base}, which no stage before it is"
        before.add(name)
    assert {*re.findall(r"--from=(\S+)", DOCKERFILE)} <= before
    assert {*re.findall(r"--target (\S+)", DOCKERFILE)} == {*TARGETS} - {"cpu"}


def test_it_installs_extras_that_there_are():
    groups = re.findall(r"(?:'\.\[|EXTRAS=)([\w,]+)", DOCKERFILE)
    named = {name for group in groups for name in group.split(",")}
    assert named == {"service", "otel", "postgres", "ray", "cuda"} and named <= {*EXTRAS}
    (tensorrt,) = re.findall(r"pip install '(tensorrt-\S+)'", DOCKERFILE)
    assert tensorrt in {requirement.partition(";")[0].strip() for requirement in EXTRAS["tensorrt"]}


def test_every_gpu_target_names_a_runtime_and_asks_for_the_drivers_video_libraries():
    for target in TARGETS[1:]:
        stage = re.search(rf"^FROM gpu AS {target}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)[1]
        assert environment(stage)["UPRES_RUNTIME"] in runtimes.names()
    assert environment(DOCKERFILE)["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility,video"


def test_compose_has_a_service_for_every_target():
    services = COMPOSE["services"]
    assert [service["build"]["target"] for service in services.values()] == [*services] == TARGETS
    published = {port.rpartition(":")[2] for service in services.values() for port in service["ports"]}
    assert published == {*re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[1].split()}
    for name, service in services.items():
        assert service.get("profiles", ["cpu"]) == [name]
        assert "healthcheck" not in service, "the image has one"
        assert service["volumes"] == [
            f"{volume}:{environment(DOCKERFILE)['UPRES_STATE']}" for volume in COMPOSE["volumes"]
        ]
        assert {variable.partition("=")[0] for variable in service["environment"]} <= SETTINGS
        assert {*service["build"].get("args", ())} <= {"BASE"}
    for name in ("cuda", "tensorrt"):
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_compose_stops_a_server_no_sooner_than_its_jobs_may_end():
    grace = settings.Settings.model_fields["grace_seconds"].default
    assert all(float(service["stop_grace_period"].rstrip("s")) > grace for service in COMPOSE["services"].values())


def podman(*arguments, seconds=120):
    """Run podman to its end; return exit code and output."""
    command = [*PODMAN, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds)
    return done.returncode, done.stdout


def inside(*command, image="cpu", user=None, state=None, environment=()):
    """Run a command in an image as `docker run --read-only` would. state: the folder for its volume."""
    options = ["--rm", "--no-healthcheck", "--read-only", "--tmpfs", "/tmp", "--network", "host", *LIMITS]
    options += [f"--user={user}"] if user else []
    options += [f"--volume={state}:/var/lib/upres"] if state else []
    options += [f"--env={name}={value}" for name, value in dict(environment).items()]
    entry, *rest = command
    return podman("run", *options, f"--entrypoint={entry}", tag(image), *rest)


def tag(target):
    """Return the name of a stage's image."""
    return f"localhost/upres-test:{target}"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the base of the images; made with debootstrap if no registry provides it."""
    missing = [name for name in ("podman", "runc", "debootstrap") if not shutil.which(name)]
    if os.geteuid() or missing:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'} on the PATH")
    if podman("image", "exists", BASE)[0]:
        folder = tmp_path_factory.mktemp("base")
        suite = BASE.removeprefix("debian:").removesuffix("-slim")
        subprocess.run(["debootstrap", "--variant=minbase", suite, folder], check=True, timeout=900, stdout=-3)
        archive = ["tar", "-C", folder, "-c", "."]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as tar:
            name = f"docker.io/library/{BASE}"
            subprocess.run([*PODMAN, "import", "-q", "-", name], stdin=tar.stdout, check=True, timeout=300)
        shutil.rmtree(folder)


def build(target, *options):
    """Build a stage as an image; return exit code and output."""
    options = ["--format=docker", "--isolation=chroot", "--pull=never", "--network=host", *LIMITS, *options]
    if bundle := os.environ.get("SSL_CERT_FILE"):  # a proxy with its own certificates
        options += [f"--volume={bundle}:/certificates.pem:ro", "--env=PIP_CERT=/certificates.pem"]
    return podman("build", *options, "--tag", tag(target), ROOT, seconds=2400)


def built(target, *options):
    """Build a stage as an image, yield its name, and remove it at the end."""
    code, output = build(target, *options)
    assert code == 0, output[-4000:]
    yield target
    podman("rmi", "--force", tag(target))


@pytest.fixture(scope="module")
def image(base):
    """Yield the image of a build that names no target."""
    yield from built("cpu")


@pytest.fixture(scope="module")
def cuda_image(base):
    """Yield the image for NVIDIA GPUs: several gigabytes."""
    yield from built("cuda", "--target=cuda")


@pytest.fixture(scope="module")
def jetson_environment(base):
    """Yield the files that the image for Jetson copies, on this machine's base image and processor."""
    yield from built("build-jetson", "--target=build-jetson")


@pytest.fixture
def state(image, tmp_path):
    """Return a folder for the volume, owned by the image's user."""
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 10001, 10001)
    return folder


@pytest.mark.soak
def test_the_image_holds_only_what_it_needs(image):
    assert inside("id", "--user") == (0, "10001\n")
    assert inside("sh", "-c", "ls -d /source /opt/upres/bin/pip*")[0] != 0
    writable = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null; true"
    paths = inside("sh", "-c", writable)[1].split()
    assert {*paths} <= {"/var/lib/upres", "/tmp", "/var/tmp", "/run/lock", "/proc"}


@pytest.mark.soak
@pytest.mark.parametrize("user", [None, "12345:12345"], ids=["its own user", "any user"])
def test_a_clip_is_upscaled_on_a_read_only_root(state, user):
    shutil.copy(SAMPLE, state / "in.mp4")
    if user:
        os.chown(state, 12345, 12345)
    code, output = inside("tini", "--", "upres", "in.mp4", "out.mp4", "--duration", "0.2", state=state, user=user)
    assert code == 0, output
    assert referee.size(state / "out.mp4") == (1280, 720)
    assert inside("touch", "/usr/x", user="root")[0] != 0


@pytest.mark.soak
def test_the_health_check_fails_where_no_server_lives(image):
    code, output = inside(*HEALTH, environment={"UPRES_HTTP_PORT": 1})
    assert code == 1 and "no server responds" in output


@pytest.mark.soak
def test_the_server_lives_and_stops(state):
    options = ["--detach", "--read-only", "--tmpfs=/tmp", *LIMITS, f"--volume={state}:/var/lib/upres"]
    code, name = podman("run", *options, "--no-healthcheck", "--network=none", tag("cpu"))
    assert code == 0, name
    try:
        deadline = time.monotonic() + SERVER_SECONDS
        while podman("exec", name.strip(), *HEALTH)[0]:
            assert time.monotonic() < deadline, podman("logs", name.strip())[1]
        podman("stop", "--time=60", name.strip())
        assert podman("inspect", "--format={{.State.ExitCode}}", name.strip())[1].strip() == "0"
    finally:
        podman("rm", "--force", name.strip())
    assert (state / "upres.db").exists()


@pytest.mark.soak
def test_images_inherit_the_health_check(image, cuda_image):
    for each in (image, cuda_image):
        (inspected,) = json.loads(podman("image", "inspect", tag(each))[1])
        assert inspected["Healthcheck"]["Test"] == ["CMD", *HEALTH]


@pytest.mark.soak
def test_the_image_for_gpus_has_one_onnx_runtime_and_what_its_provider_links(cuda_image):
    """Only the driver is missing, which the host provides. Explicit requests for the CPU work."""
    code, output = inside("upres", "doctor", "--json", image=cuda_image)
    findings = {finding["name"]: finding for finding in json.loads(output)}
    assert code == 0, output
    assert (
        findings["ONNX Runtime"]["state"].startswith("onnxruntime-gpu") and "CUDA" in findings["ONNX Runtime"]["state"]
    )
    assert "two wheels" not in findings["ONNX Runtime"]["state"] and findings["cuda-core"]["state"] != "not installed"
    assert "no NVIDIA driver is installed" in findings["runtime cuda"]["state"]
    linked = """
        set -e
        site=$(echo /opt/upres/lib/python3*/site-packages)
        export LD_LIBRARY_PATH=$(echo $site/nvidia/*/lib | tr ' ' ':')
        ldd $site/onnxruntime/capi/libonnxruntime_providers_cuda.so
    """
    code, output = inside("sh", "-c", linked, image=cuda_image)
    assert code == 0 and "libcudart.so" in output and "libcublasLt.so" in output
    assert {line.split()[0] for line in output.splitlines() if "not found" in line} <= {"libcuda.so.1"}


@pytest.mark.soak
def test_the_image_for_gpus_upscales_on_the_cpu_and_refuses_cuda_without_a_driver(cuda_image, state):
    shutil.copy(SAMPLE, state / "in.mp4")
    command = ["upres", "in.mp4", "out.mp4", "--duration", "0.2"]
    code, output = inside(*command, "--runtime", "cuda", image=cuda_image, state=state)
    assert code and "no NVIDIA driver is installed" in output and not (state / "out.mp4").exists()
    code, output = inside(*command, image=cuda_image, state=state)
    assert code == 0, output
    assert referee.size(state / "out.mp4") == (1280, 720)


@pytest.mark.soak
def test_the_environment_of_a_jetson_sees_what_apt_installs_and_prefers_its_own(jetson_environment):
    """TensorRT comes from apt there; NumPy, which it depends on, is too old."""
    look = "import sys, numpy, upres.engine, cuda.core; print(numpy.__file__, *sys.path, sep='\\n')"
    code, output = inside("/opt/upres/bin/python3", "-c", look, image=jetson_environment)
    assert code == 0, output
    numpy, *path = output.splitlines()
    assert numpy.startswith("/opt/upres/") and path[-1] == "/usr/lib/python3/dist-packages"


@pytest.mark.soak
def test_the_image_for_jetson_refuses_another_base_before_anything_is_fetched(base):
    code, output = build("jetson", "--target=jetson")
    assert code and "jetson needs --build-arg BASE=ubuntu:24.04" in output
