"""The Dockerfile: that what it names exists; and, as a soak test, an image built by podman from it, and the result used."""

import json
import os
import re
import shutil
import subprocess
import time
from importlib.util import find_spec

import pytest
import referee
from paths import ROOT, SAMPLE

from upres.service.server import settings

DOCKERFILE = (ROOT / "Dockerfile").read_text()
BASE, IMAGE = re.search(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)[1], "localhost/upres-test"
PODMAN = ["podman", "--runtime", "runc"]
HEALTH = json.loads(re.search(r"^HEALTHCHECK.*?CMD (\[.*?\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)[1])
SERVER_SECONDS = 180
LIMITS = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]  # podman's own are more than a machine may allow


def test_what_it_names_exists():
    """What it sets is a setting, what it runs is there, and what its context takes lies here."""
    names = {name.lower() for name in re.findall(r"UPRES_(\w+)=", DOCKERFILE.partition("\nENV ")[2])}
    assert names and names <= {*settings.Settings.model_fields}
    assert HEALTH[:2] == ["python3", "-m"] and find_spec(HEALTH[2])
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert all((ROOT / line[1:]).exists() for line in lines if line.startswith("!"))


def podman(*arguments, seconds=120):
    """Run podman to its end: exit code and output."""
    command = [*PODMAN, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds)
    return done.returncode, done.stdout


def inside(*command, user=None, state=None, environment=()):
    """Run a command in the image as `docker run --read-only` would; state: the folder for its volume."""
    options = ["--rm", "--read-only", "--tmpfs", "/tmp", "--network", "host", *LIMITS]
    options += [f"--user={user}"] if user else []
    options += [f"--volume={state}:/var/lib/upres"] if state else []
    options += [f"--env={name}={value}" for name, value in dict(environment).items()]
    entry, *rest = command
    return podman("run", *options, f"--entrypoint={entry}", IMAGE, *rest)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The image, of a base that debootstrap makes where no registry has given one."""
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
    options = ["--isolation=chroot", "--pull=never", "--network=host", *LIMITS]
    if bundle := os.environ.get("SSL_CERT_FILE"):  # where a proxy in between has certificates of its own
        options += [f"--volume={bundle}:/certificates.pem:ro", "--env=PIP_CERT=/certificates.pem"]
    code, output = podman("build", *options, "--tag", IMAGE, ROOT, seconds=1800)
    assert code == 0, output[-4000:]
    yield
    podman("rmi", "--force", IMAGE)


@pytest.fixture
def state(image, tmp_path):
    """A folder for the volume, of the image's user."""
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 10001, 10001)
    return folder


@pytest.mark.soak
def test_the_image_holds_only_what_it_needs(image):
    assert inside("id", "--user") == (0, "10001\n")
    assert inside("sh", "-c", "ls -d /source /opt/upres/bin/pip*")[0] != 0
    writable = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null; true"
    found = inside("sh", "-c", writable)[1].split()
    assert {*found} <= {"/var/lib/upres", "/tmp", "/var/tmp", "/run/lock", "/proc"}


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
    assert code == 1 and "no server lives" in output


@pytest.mark.soak
def test_the_server_lives_and_stops(state):
    options = ["--detach", "--read-only", "--tmpfs=/tmp", *LIMITS, f"--volume={state}:/var/lib/upres"]
    code, name = podman("run", *options, "--network=none", IMAGE)
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
