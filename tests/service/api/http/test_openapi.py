"""The served API description, and the page that shows it."""

import re

import httpx
import pytest
from serving import ServerProcess

ORIGIN = "https://app.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
SUBMIT = "/api/v2/videos/upscales"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "state", workers=0, limits="deapi") as process:
        yield process


@pytest.fixture(scope="module")
def described(server):
    return httpx.get(f"{server.base}/openapi.json").json()


def operations(described):
    return {
        (method, path): operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_of_the_api_needs_a_key_and_says_what_it_answers(described):
    (scheme,) = described["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    keyed = {place: operation for place, operation in operations(described).items() if "security" in operation}
    assert {path for _, path in keyed} == {
        SUBMIT,
        f"{SUBMIT}/price",
        "/api/v2/jobs",
        "/api/v2/jobs/{request_id}",
        "/api/v2/jobs/{request_id}/advice",
        "/api/v2/jobs/{request_id}/cancel",
        "/api/v2/live/sources",
        "/api/v2/models",
        "/api/v2/account/balance",
        "/broadcasting/auth",
    }
    for (method, path), operation in keyed.items():
        assert {"200", "401", "422", "429"} <= set(operation["responses"]), path
        assert ("404" in operation["responses"]) == ("{" in path)
        assert ("413" in operation["responses"]) == (method == "post")
        for answer in operation["responses"].values():
            assert "$ref" in answer["content"]["application/json"]["schema"], path


def test_authors_of_clients_read_why_to_send_a_key_with_each_upload(described):
    (parameter,) = operations(described)["post", SUBMIT]["parameters"]
    assert (parameter["in"], parameter["name"], parameter["required"]) == ("header", "idempotency-key", False)
    assert "may create a second one" in parameter["description"]


def test_forms_are_described_by_their_fields(described):
    schemas, paths = described["components"]["schemas"], operations(described)
    ((kind, body),) = paths["post", SUBMIT]["requestBody"]["content"].items()
    form = schemas[body["schema"]["$ref"].rpartition("/")[2]]
    assert kind == "multipart/form-data" and form["required"] == ["video", "model"]
    assert form["properties"]["video"]["format"] == "binary"
    assert {"scale", "prefilters", "split", "webhook_url", "webhook_secret"} <= set(form["properties"])
    price = paths["post", f"{SUBMIT}/price"]["requestBody"]["content"]
    assert set(price) == {"multipart/form-data", "application/json"}


def test_the_page_of_the_description_needs_no_other_host(server):
    page = httpx.get(f"{server.base}/docs").text
    places = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert places and all(place.startswith("/") and not place.startswith("//") for place in places)
    for place in places:
        assert httpx.get(server.base + place).status_code == 200, place
    assert not re.findall(r"https?://", page)
    assert '"validatorUrl": null' in page  # otherwise it sends the description to another host


def test_other_origins_are_let_in_only_where_the_operator_names_them(server, tmp_path):
    headers = {"Origin": ORIGIN, **PREFLIGHT}
    closed = httpx.options(server.base + SUBMIT, headers=headers)
    assert closed.status_code != 401 and "access-control-allow-origin" not in closed.headers
    with ServerProcess(tmp_path / "state", workers=0, cors_origins=[ORIGIN]) as opened:
        preflight = httpx.options(opened.base + SUBMIT, headers=headers)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        other = httpx.options(opened.base + SUBMIT, headers={**headers, "Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
        answer = httpx.post(opened.base + SUBMIT, headers={"Origin": ORIGIN})  # errors are readable too
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, ORIGIN)
        assert "x-ratelimit-daily-remaining" in answer.headers["access-control-expose-headers"].lower()
