"""The container's health check, against real servers."""

import subprocess
import sys

import pytest
import trustme
from receiver import receiving

from upres.service.server.health import check


@pytest.mark.parametrize("authority", [None, trustme.CA()], ids=["http", "https"])
def test_a_server_that_answers_lives(authority):
    with receiving(authority) as server:
        environment = {"UPRES_HTTP_PORT": str(server.server_port)}
        if authority is not None:
            environment["UPRES_TLS_CERTIFICATE"] = "certificate.pem"
        assert check(environment) is None
        server.answers[0] = 503
        assert "503" in check(environment)


def test_without_a_server_the_check_fails_and_says_what_to_look_at():
    with receiving() as server:
        port = str(server.server_port)
    for environment in ({"UPRES_HTTP_PORT": port}, {"UPRES_HTTP_PORT": "none"}):
        command = [sys.executable, "-m", "upres.service.server.health"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert run.returncode == 1 and "UPRES_HTTP_PORT" in run.stderr
