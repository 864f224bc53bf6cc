"""Clients that know only the published contracts: a gRPC script, `buf curl`, and one generated from OpenAPI."""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections import Counter

import grpc
import httpx
import hypothesis
import pytest
import referee
import schemathesis
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from paths import ROOT, SUPPORT
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from serving import KEY, Rpc, ServerProcess

from upres.service.api.http.downloads import part

STRANGER = SUPPORT / "stranger.py"
PROTO = ROOT / "proto"


def fuzzed(test, examples):
    settings = hypothesis.settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=[*hypothesis.HealthCheck]
    )
    return hypothesis.seed(3)(settings(test))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(
        tmp_path_factory.mktemp("server") / "state", requests_per_minute=100_000, limits="deapi"
    ) as process:
        yield process


def test_a_script_of_thirty_lines_streams_a_clip(server, clip):
    command = [sys.executable, str(STRANGER), server.target, KEY, str(clip())]
    summary = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    assert summary["done"] and summary["frames"] == 30
    assert summary["fragments"] > 1


def test_the_stranger_knows_nothing_of_the_service():
    assert "upres.service" not in STRANGER.read_text()
    assert "upres.engine" not in STRANGER.read_text()


@pytest.fixture(scope="session")
def buf(request):
    """Return the contract's own tool, in the version that checks it, downloaded once with npm."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("buf needs node and npm on the PATH")
    version = re.search(r"^version=(.+)$", (PROTO / "check.sh").read_text(), re.MULTILINE)[1]
    folder = request.config.cache.mkdir("buf") / version
    program = folder / "node_modules/.bin/buf"
    if not program.exists():
        quiet = ("--silent", "--no-fund", "--no-audit")
        command = ["npm", "install", *quiet, "--prefix", folder, f"@bufbuild/buf@{version}"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=180)
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"buf could not be fetched: {error}")
    return program


@pytest.fixture
def curl(buf, server):
    """Call a method with JSON messages through reflection only; return the response, or the error and its gRPC code."""

    def call(method, *messages, key=KEY):
        url = f"http://{server.target}/upres.v2.{method}"
        command = [buf, "curl", "--protocol", "grpc", "-H", f"Authorization: Bearer {key}", "--data", "@-", url]
        body = "\n".join(map(json.dumps, messages)).encode()
        done = subprocess.run(command, input=body, capture_output=True, timeout=60, check=False)
        return done.returncode >> 3, json.loads(done.stdout or done.stderr)

    return call


def begin(**config):
    return {"begin": {"config": config}}


def unpacked(error):
    """Return the details of an error, which buf prints as base64."""
    kinds = {kind.DESCRIPTOR.full_name: kind for kind in (ErrorInfo, BadRequest)}
    details = {detail["type"]: base64.b64decode(detail["value"] + "==") for detail in error["details"]}
    return {kinds[name].__name__: kinds[name].FromString(data) for name, data in details.items()}


@pytest.mark.referee
def test_buf_curl_finds_the_services_by_reflection_and_makes_a_job(server, curl, clip, tmp_path):
    server.ready()
    code, answer = curl("ModelService/ListModels", {})
    models = {model["slug"]: model for model in answer["models"]}
    assert code == 0 and models["RealESRGAN_Vid_x4"] == {
        "slug": "RealESRGAN_Vid_x4",
        "scales": [4],
        "longest": "15s",
        "available": True,
    }
    data = base64.b64encode(clip("a.mp4", 1).read_bytes()).decode()
    code, answer = curl(
        "JobService/CreateJob", begin(model="RealESRGAN_Vid_x2"), {"chunk": {"data": data}}, {"end": True}
    )
    assert code == 0 and answer["job"]["accepted"]
    request_id = answer["job"]["requestId"]
    with Rpc(server.target) as rpc:
        assert list(rpc.watch(request_id))[-1].event == "done"
    code, answer = curl("JobService/GetJob", {"requestId": request_id})
    assert code == 0 and answer["job"]["status"] == "STATUS_DONE" and answer["job"]["totals"]["framesOut"] == "10"
    code, answer = curl("JobService/ReadResult", {"requestId": request_id, "file": {}})
    (tmp_path / "out.mp4").write_bytes(base64.b64decode(answer["chunk"]["data"]))
    assert code == 0 and referee.size(tmp_path / "out.mp4") == (128, 96)


@pytest.mark.referee
def test_buf_curl_is_told_what_is_wrong(curl):
    code, error = curl("JobService/CreateJob", begin(model="RealESRGAN_Vid_x4", scale=2, crf=99))
    details = unpacked(error)
    assert (code, error["code"]) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "invalid_argument")
    assert {violation.field for violation in details["BadRequest"].field_violations} == {"scale", "crf"}
    assert (details["ErrorInfo"].reason, details["ErrorInfo"].domain) == ("INVALID", "upres")
    code, error = curl("JobService/GetJob", {"requestId": str(uuid.uuid4())})
    assert (code, unpacked(error)["ErrorInfo"].reason) == (grpc.StatusCode.NOT_FOUND.value[0], "NOT_FOUND")
    code, error = curl("ModelService/ListModels", {}, key="wrong")
    assert (code, error["code"]) == (grpc.StatusCode.UNAUTHENTICATED.value[0], "unauthenticated")


@pytest.fixture
def api(server):
    """Return the served schema once every model is loaded, so that no response may be a 5xx."""
    server.ready()
    return schemathesis.openapi.from_url(f"{server.base}/openapi.json")


@pytest.mark.parametrize("mode", [*GenerationMode])
def test_nothing_that_the_openapi_allows_or_forbids_makes_an_error_of_ours(api, mode):
    answers = Counter()

    def call(case):
        answer = case.call(headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
        answers[case.operation.label, answer.status_code] += 1
        case.validate_response(answer, checks=[not_a_server_error])

    operations = [operation.ok() for operation in api.get_all_operations()]
    for operation in operations:
        examples = 4 if operation.method == "post" else 50  # a process inspects each submitted video
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # it has no parameters
            fuzzed(hypothesis.given(case=operation.as_strategy(generation_mode=mode))(call), examples)()
    if mode is GenerationMode.NEGATIVE:  # in a path, any text is valid
        operations = [operation for operation in operations if [*operation.query, *operation.body]]
    assert {label for label, _ in answers} >= {operation.label for operation in operations}, answers


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
