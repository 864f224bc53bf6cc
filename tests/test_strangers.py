"""Clients that know the published contracts only: a gRPC script of its own process, and one that is made from the OpenAPI."""

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from serving import KEY, ServerProcess
from upres.service.files import part

STRANGER = Path(__file__).with_name("stranger.py")


def fuzzed(test, examples):
    settings = hypothesis.settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=[*hypothesis.HealthCheck]
    )
    return hypothesis.seed(3)(settings(test))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state", requests_per_minute=100_000) as process:
        yield process


def test_a_script_of_thirty_lines_streams_a_clip(server, clip):
    command = [sys.executable, str(STRANGER), server.target, KEY, str(clip())]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    assert told["done"] and told["frames"] == 30
    assert told["fragments"] > 1


def test_the_stranger_knows_nothing_of_the_service():
    assert "upres.service" not in STRANGER.read_text()
    assert "upres.engine" not in STRANGER.read_text()


@pytest.fixture
def api(server):
    """The served description, once every model is warm, so that no answer has a reason to be a 5xx."""
    for _ in range(600):
        if httpx.get(f"{server.base}/readyz").status_code == 200:
            break
        time.sleep(0.1)  # until the workers have loaded
    return schemathesis.openapi.from_url(f"{server.base}/openapi.json")


@pytest.mark.parametrize("mode", [*GenerationMode])
def test_nothing_that_the_openapi_allows_or_forbids_makes_an_error_of_ours(api, mode):
    answers = Counter()

    def call(case):
        answer = case.call(headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
        answers[case.operation.label, answer.status_code] += 1
        case.validate_response(answer, checks=[not_a_server_error])

    operations = [found.ok() for found in api.get_all_operations()]
    for operation in operations:
        examples = 4 if operation.method == "post" else 50  # a video that is sent is looked at by a process of its own
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # what has no parameters cannot break their rules
            fuzzed(hypothesis.given(case=operation.as_strategy(generation_mode=mode))(call), examples)()
    if mode is GenerationMode.NEGATIVE:  # of a path, any text is as good as any other
        operations = [operation for operation in operations if [*operation.query, *operation.body]]
    assert {label for label, _ in answers} == {operation.label for operation in operations}, answers


PRICE = "/api/v2/videos/upscales/price"
SUBMIT = "/api/v2/videos/upscales"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/results/x.mp4?signature=a&expires={'9' * 5000}", None, 404),
        ("/results/%00?signature=%ff&expires=9", None, 404),
        ("/api/v2/jobs/%ff", None, 404),
        (PRICE, b"[" * 200_000, 422),
        (PRICE, b'{"model": "\\ud800"}', 422),
        (PRICE, b'{"width": ' + b"9" * 5000 + b"}", 422),
        (SUBMIT, b'{"model": "RealESRGAN_Vid_x2", "webhook_url": "https://["}', 422),
        (SUBMIT, b'{"model": "RealESRGAN_Vid_x2", "webhook_url": "https://\\u0000/"}', 422),
    ],
)
def test_what_no_description_thinks_of_is_refused_too(server, path, body, status):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    answer = httpx.request("POST" if body else "GET", server.base + path, headers=headers, content=body, timeout=30)
    assert answer.status_code == status, answer.text


def test_ranges_of_numbers_too_long_are_none_at_all():
    assert part(f"bytes={'9' * 5000}-", 7) == (0, 7)
