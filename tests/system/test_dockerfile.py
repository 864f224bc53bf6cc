"""The Dockerfile: that what it names exists; and, as a soak test, every line of it run in clean roots and the result used."""

import json
import os
import shutil
import signal
import socket
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import referee
from dockerfile import Build, instructions
from paths import ROOT as TOP

from upres.service.server import settings

SERVER_SECONDS = 180


def test_what_it_names_exists():
    """What it sets is a setting, what it runs is there, and what its context takes lies here."""
    said = instructions((TOP / "Dockerfile").read_text())
    words = [word for kind, rest in said for word in rest.split() if kind == "ENV"]
    names = {word.partition("=")[0].removeprefix("UPRES_").lower() for word in words if word.startswith("UPRES_")}
    assert names and names <= {*settings.Settings.model_fields}
    health = json.loads(dict(said)["HEALTHCHECK"].partition(" CMD ")[2])
    assert health[:2] == ["python3", "-m"] and find_spec(health[2])
    lines = (TOP / ".dockerignore").read_text().splitlines()
    assert all((TOP / line[1:]).exists() for line in lines if line.startswith("!"))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    if os.geteuid() or not shutil.which("debootstrap") or not shutil.which("unshare"):
        if os.environ.get("CI"):
            pytest.fail("root, debootstrap and unshare are needed to try the Dockerfile")
        pytest.skip("root, debootstrap and unshare are needed to try the Dockerfile")
    folder = tmp_path_factory.mktemp("image")
    with (tmp_path_factory.mktemp("log") / "build").open("w", buffering=1) as log:
        yield Build(TOP, folder, lambda line: log.write(f"{line}\n")).run()
    shutil.rmtree(folder)


@pytest.fixture
def state(image, tmp_path):
    """A folder for the volume, of the image's user."""
    folder = tmp_path / "state"
    folder.mkdir()
    owner = (image.root / image.volume.lstrip("/")).stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    return folder


@pytest.mark.soak
def test_the_image_holds_only_what_it_needs(image):
    assert image.run(["id", "--user"]) == (0, "10001\n")
    assert not (image.root / "source").exists() and not list(image.root.glob("opt/upres/bin/pip*"))
    writable = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null; true"
    assert set(image.run(["sh", "-c", writable])[1].split()) <= {
        "/var/lib/upres",
        "/tmp",
        "/var/tmp",
        "/run/lock",
        "/proc",
    }


@pytest.mark.soak
@pytest.mark.parametrize("user", [None, "12345:12345"], ids=["its own user", "any user"])
def test_a_clip_is_enlarged_on_a_read_only_root(image, state, user):
    shutil.copy(TOP / "tests/data/bigbuckbunny.mp4", state / "in.mp4")
    if user:
        os.chown(state, 12345, 12345)
    command = [*image.entry, "in.mp4", "out.mp4", "--duration", "0.2"]
    code, output = image.run(command, state=state, user=user)
    assert code == 0, output
    assert referee.size(state / "out.mp4") == (1280, 720)
    assert image.run(["touch", "/usr/x"], state=state, user="root")[0] != 0


@pytest.mark.soak
def test_the_health_check_fails_where_no_server_lives(image, state):
    code, output = image.run(image.health, state=state, environment={"UPRES_HTTP_PORT": str(free_port())})
    assert code == 1 and "no server lives" in output


@pytest.mark.soak
def test_the_server_lives_and_stops(image, state):
    ports = {"UPRES_HOST": "127.0.0.1", "UPRES_HTTP_PORT": str(free_port()), "UPRES_GRPC_PORT": str(free_port())}
    with image.start([*image.entry, *image.command], state=state, environment=ports) as server:
        deadline = time.monotonic() + SERVER_SECONDS
        while image.run(image.health, state=state, environment=ports)[0]:
            assert server.poll() is None and time.monotonic() < deadline
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)  # tini, which is process 1 inside
        assert server.wait(60) == 0
    assert (state / "upres.db").exists()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
