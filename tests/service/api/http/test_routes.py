"""The v2 HTTP contract, over real HTTP to a real server process."""

import asyncio
import json
import re
import socket
import sqlite3
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import media
import pytest
import referee
from serving import KEY, Rpc, ServerProcess

from upres.service.api.http.middleware import Gate
from upres.service.auth.rate_limit import Quota
from upres.service.domain.errors import DiskFullError
from upres.service.jobs.reading import UNKNOWN_SECONDS_PER_PIXEL

HEADERS = {"Authorization": f"Bearer {KEY}"}
GARBAGE = ("x.mp4", b"garbage" * 1000, "video/mp4")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(
        tmp_path_factory.mktemp("server") / "state", requests_per_minute=5000, limits="deapi"
    ) as process:
        yield process


@pytest.fixture
def web(server):
    with httpx.Client(base_url=server.base, headers=HEADERS, timeout=60) as client:
        yield client


def submit(web, path, headers=None, **fields):
    data = {"model": "RealESRGAN_Vid_x2", "segment_seconds": "0.5", "preset": "ultrafast", **fields}
    with path.open("rb") as file:
        files = {"video": ("video.bin", file, "application/octet-stream")}
        return web.post("/api/v2/videos/upscales", files=files, data=data, headers=headers or {})


@pytest.fixture
def poll(server, web):
    """Poll a job like a client of the hosted API, after each event, until it has ended."""

    def ask(request_id, url="/api/v2/jobs"):
        with Rpc(server.target) as rpc:
            for _ in rpc.watch(request_id):
                data = web.get(f"{url}/{request_id}").json()["data"]
                assert data["status"] in ("pending", "processing", "done", "error")
                assert isinstance(data["progress"], int | float) and 0 <= data["progress"] <= 100
        assert data["status"] in ("done", "error")
        return data

    return ask


def test_the_guides_script(server, poll, clip, tmp_path):
    """Submit, poll, read result_url with a plain GET: only the base URL and the key differ from the hosted API."""
    with clip().open("rb") as file:
        answer = httpx.post(
            f"{server.base}/api/v2/videos/upscales",
            headers=HEADERS,
            files={"video": ("a.mp4", file, "video/mp4")},
            data={"model": "RealESRGAN_Vid_x4"},
            timeout=60,
        )
    assert answer.status_code == 200, answer.text
    request_id = answer.json()["data"]["request_id"]
    assert str(uuid.UUID(request_id)) == request_id
    data = poll(request_id)
    assert data["status"] == "done" and data["progress"] == 100
    assert not {"error_code", "error_message", "error_reason", "retryable", "refunded", "failed_at"} & set(data)
    assert data["price"] == {"amount": 0, "is_estimated": False} and data["results_alt_formats"] is None
    got = httpx.get(data["result_url"])
    assert (got.status_code, got.headers["content-type"]) == (200, "video/mp4")
    (tmp_path / "out.mp4").write_bytes(got.content)
    assert referee.size(tmp_path / "out.mp4") == (256, 192)
    assert referee.count(tmp_path / "out.mp4") == 30
    picture = httpx.get(data["preview"])
    assert (picture.headers["content-type"], picture.content[:2]) == ("image/jpeg", b"\xff\xd8")


def test_results_have_ranges_and_their_links_are_signed(web, poll, clip):
    url = poll(submit(web, clip()).json()["data"]["request_id"])["result_url"]
    whole = httpx.get(url).content
    part = httpx.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    assert httpx.get(url, headers={"Range": "bytes=-5"}).content == whole[-5:]
    assert httpx.get(url, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    head = httpx.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(whole)), b"")
    ranged = httpx.head(url, headers={"Range": "bytes=10-19"})  # ranges are for GET only: RFC 9110, section 14.2
    assert (ranged.status_code, ranged.headers["content-length"]) == (200, str(len(whole)))
    assert httpx.get(url.replace("signature=", "signature=0")).status_code == 404
    assert httpx.get(re.sub(r"expires=\d+", "expires=1", url)).status_code == 404
    assert httpx.get(urlsplit(url)._replace(query="").geturl()).status_code == 404


def test_every_problem_is_named_in_one_answer(web):
    data = {"model": "RealESRGAN_Vid_x4", "scale": "2", "webhook_secret": "short", "crf": "many"}
    answer = web.post("/api/v2/videos/upscales", files={"video": GARBAGE}, data=data)
    assert answer.status_code == 422
    body = answer.json()
    assert set(body) == {"message", "errors"}
    assert set(body["errors"]) == {"video", "scale", "webhook_secret", "crf"}
    messages = [message for name in body["errors"] for message in body["errors"][name]]
    assert body["message"] == f"{messages[0]} (and {len(messages) - 1} more errors)"
    empty = web.post("/api/v2/videos/upscales", data={"scale": ""})
    assert set(empty.json()["errors"]) == {"video", "model"}
    unknown = web.post("/api/v2/videos/upscales", data={"model": "x"})
    assert unknown.status_code == 422 and "model" in unknown.json()["errors"]


@pytest.mark.parametrize("host", ["xn--a", "xn--zzzzzzzz.example", "xn--"])
def test_a_webhook_to_a_host_that_is_no_name_is_a_problem_of_its_field(web, clip, host):
    answer = submit(web, clip(), webhook_url=f"https://{host}/hook")
    assert answer.status_code == 422 and set(answer.json()["errors"]) == {"webhook_url"}


def test_what_an_encoder_does_not_take_is_refused_with_the_reason(web, tmp_path):
    path = media.clip(tmp_path / "small.mkv", "-c:v", "ffv1", picture="testsrc2=size=6x64:rate=5:duration=1")
    answer = submit(web, path, codec="hevc")
    assert answer.status_code == 422 and "at least 16 pixels a side" in answer.json()["message"], answer.text


def test_clips_that_are_too_long_or_too_large_are_refused_on_video(web, clip, tmp_path):
    long = submit(web, clip("long.mp4", 20, "-preset", "ultrafast"), model="RealESRGAN_Vid_x4")
    assert long.status_code == 422 and "15 seconds" in long.json()["errors"]["video"][0]
    (tmp_path / "large").write_bytes(bytes(52_428_801))
    large = submit(web, tmp_path / "large")
    assert large.status_code == 422 and "52428800 bytes" in large.json()["errors"]["video"][0]
    (tmp_path / "huge").write_bytes(bytes(76_000_000))
    assert submit(web, tmp_path / "huge").status_code == 413


def test_a_client_that_leaves_in_the_middle_of_its_upload_is_no_error(tmp_path):
    request = f"POST /api/v2/videos/upscales HTTP/1.1\r\nHost: upres\r\nAuthorization: Bearer {KEY}\r\n"
    body = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
    with ServerProcess(tmp_path / "state", workers=0) as server:
        with socket.create_connection(("127.0.0.1", server.settings["http_port"])) as leaving:
            leaving.sendall((request + body).encode())
        assert server.stop() == 0
        assert [line for line in server.lines if line["level"] in ("ERROR", "CRITICAL")] == []


def test_an_upload_that_stops_is_not_waited_for(tmp_path):
    request = f"POST /api/v2/videos/upscales HTTP/1.1\r\nHost: upres\r\nAuthorization: Bearer {KEY}\r\n"
    body = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
    with ServerProcess(tmp_path / "state", source_idle_seconds=0.2, workers=0) as server, socket.socket() as sending:
        sending.settimeout(60)
        sending.connect(("127.0.0.1", server.settings["http_port"]))
        sending.sendall((request + body).encode())
        answer = b"".join(iter(lambda: sending.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ") and b"0.2 seconds" in answer


def begin(body):
    """The start of an upload. body: its headers, and a part of its content."""
    request = f"POST /api/v2/videos/upscales HTTP/1.1\r\nHost: upres\r\nAuthorization: Bearer {KEY}\r\n"
    return (request + "Content-Type: multipart/form-data; boundary=x\r\n").encode() + body


FILE = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 100000000\r\n\r\n",  # without any content
        b"Content-Length: 2000000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1000000\r\n" + FILE + bytes((1 << 20) + 65536),  # without an end
    ],
    ids=["larger than the contract takes", "announced", "without a length"],
)
def test_an_upload_that_the_disk_has_no_room_for_is_refused_before_it_has_come(tmp_path, body):
    with ServerProcess(tmp_path / "state", free_bytes=1 << 62, workers=0) as server, socket.socket() as sending:
        sending.settimeout(60)
        sending.connect(("127.0.0.1", server.settings["http_port"]))
        sending.sendall(begin(body))
        assert sending.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_the_disk_is_looked_at_again_while_an_upload_comes(tmp_path):
    """There is room at the first check; another process then uses it."""
    looks = []

    def check_room(size):
        looks.append(size)
        if len(looks) > 2:
            raise DiskFullError("full")

    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass

    async def receive():
        return {"type": "http.request", "body": bytes(1 << 20), "more_body": True}

    answers = []

    async def send(message):
        answers.append(message)

    gate = Gate(app, AnyKey(), Quota(9, 9), idle_seconds=60, largest=1 << 30, check_room=check_room)
    headers = [(b"authorization", b"Bearer key"), (b"content-length", b"500000000")]
    asyncio.run(gate({"type": "http", "method": "POST", "path": "/api/v2/x", "headers": headers}, receive, send))
    assert answers[0]["status"] == 503
    assert looks[0] == 1_000_000_000 and len(looks) == 3


class AnyKey:
    def owner(self, secret):
        return "alice"


def test_an_idempotency_key_makes_one_job(web, poll, clip):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    path = clip()
    with ThreadPoolExecutor(4) as senders:
        answers = list(senders.map(lambda _: submit(web, path, headers=key).json(), range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert poll(answers[0]["data"]["request_id"])["status"] == "done"
    other = submit(web, clip(), headers=key, crf="20")
    assert other.status_code == 422


def test_an_idempotency_key_without_text_is_none(web, clip):
    ids = [
        submit(web, clip(name, 1), {"Idempotency-Key": ""}).json()["data"]["request_id"] for name in ("a.mp4", "a.ts")
    ]
    assert ids[0] != ids[1]


def test_an_error_of_ours_tells_nothing_and_has_the_contracts_headers(tmp_path):
    with ServerProcess(tmp_path / "state", workers=0) as server:
        with closing(sqlite3.connect(tmp_path / "state" / "upres.db")) as database:
            database.execute("ALTER TABLE jobs RENAME TO lost")
        answer = httpx.get(f"{server.base}/api/v2/jobs/{uuid.uuid4()}", headers=HEADERS)
    assert (answer.status_code, answer.json()) == (500, {"message": "Server Error"})
    assert int(answer.headers["X-RateLimit-Limit"]) == 1 + int(answer.headers["X-RateLimit-Remaining"])


def test_errors_have_the_contracts_bodies(server, web):
    answer = httpx.get(f"{server.base}/api/v2/models", headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthenticated."})
    assert answer.headers["X-RateLimit-Limit"] == answer.headers["X-RateLimit-Remaining"] == "5000"
    for path in (f"jobs/{uuid.uuid4()}", "jobs/..%2f..%2fetc", "nothing"):
        answer = web.get(f"/api/v2/{path}")
        assert (answer.status_code, answer.json()) == (404, {"message": "No query results for the requested resource."})
    assert int(answer.headers["X-RateLimit-Remaining"]) < 5000
    assert web.delete("/api/v2/models").status_code == 405


def test_prices_are_nothing_and_estimates_are_linear(web, clip):
    url = "/api/v2/videos/upscales/price"
    measures = {"width": 640, "height": 360, "duration": 2, "model": "RealESRGAN_Vid_x4"}
    by_json = web.post(url, json=measures).json()["data"]
    by_form = web.post(url, data=measures).json()["data"]
    twice = web.post(url, data={**measures, "duration": 4}).json()["data"]
    assert by_json == by_form and by_json["price"] == 0
    assert by_json["estimated_seconds"] > 0
    assert twice["estimated_seconds"] == pytest.approx(2 * by_json["estimated_seconds"], rel=0.1)
    with clip().open("rb") as file:
        answer = web.post(url, files={"video": file}, data={"model": "RealESRGAN_Vid_x2"})
    assert answer.status_code == 200 and answer.json()["data"]["estimated_seconds"] > 0
    without = web.post(url, data={"width": 640, "height": 360, "model": "RealESRGAN_Vid_x4"})
    assert without.json()["data"]["price"] == 0


@pytest.mark.parametrize(
    ("measures", "wrong"),
    [
        ({"width": "x", "scale": "9", "model": ""}, {"model", "width", "height"}),
        ({}, {"width", "height"}),
        # RealESRGAN_Vid_x4: 15 s, as reported by /models.
        ({"width": 640, "height": 360, "duration": 15.2}, {"duration"}),
        ({"width": 640, "height": 360, "duration": 0.05}, {"duration"}),
        ({"width": 5000, "height": 5000, "duration": -1}, {"width", "height", "duration"}),
        ({"width": 8, "height": 1.5, "duration": "nan"}, {"width", "height", "duration"}),
        ({"width": 640, "height": 360, "model": "x", "crf": 99}, {"model", "crf"}),
        ({"width": 640, "height": 360, "model": "FlashVSR_Tiny"}, {"model"}),  # it is not on this machine
    ],
)
@pytest.mark.parametrize("way", ["json", "data"])
def test_a_price_by_measures_is_refused_as_its_clip_would_be(server, web, measures, wrong, way):
    server.ready()
    body = {"model": "RealESRGAN_Vid_x4", **measures}
    answer = web.post("/api/v2/videos/upscales/price", **{way: body})
    assert answer.status_code == 422 and set(answer.json()["errors"]) == wrong, answer.text


def test_a_whole_number_with_a_point_is_an_integer(web):
    measures = {"width": 640.0, "height": 360, "duration": 2, "model": "RealESRGAN_Vid_x4", "scale": 4.0, "crf": 18.0}
    answer = web.post("/api/v2/videos/upscales/price", json=measures)
    assert set(answer.json()["errors"]) == {"scale"} and "fixed at 4" in answer.json()["message"]
    assert web.post("/api/v2/videos/upscales/price", json={**measures, "scale": None}).status_code == 200


@pytest.mark.parametrize("wrong", [{"a": 1}, ["x", {}], "\u0000", 1e400], ids=repr)
def test_values_of_any_type_in_json_are_named_where_they_are_wrong(web, wrong):
    names = ("scale", "crf", "segment_seconds", "split", "width", "height", "duration")
    words = ("content", "codec", "preset", "webhook_secret")
    body = json.dumps({"model": "RealESRGAN_Vid_x4", **dict.fromkeys((*names, *words), wrong)})
    url = "/api/v2/videos/upscales/price"
    answer = web.post(url, headers={"Content-Type": "application/json"}, content=body)
    assert answer.status_code == 422 and set(answer.json()["errors"]) == {*names, *words}, answer.text


def test_a_trailing_slash_changes_nothing(server, web):
    for path in ("/api/v2/models", "/api/v2/account/balance", "/healthz", f"/api/v2/jobs/{uuid.uuid4()}"):
        with_slash, without = web.get(path + "/"), web.get(path)
        assert (with_slash.status_code, with_slash.json()) == (without.status_code, without.json())
    assert httpx.get(f"{server.base}/api/v2/models/").status_code == 401


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=x", b"garbage"),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nReal'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nReal\r\n--x--\r\n"),
        ("application/x-www-form-urlencoded", b"model=%ff&" + b"a" * 100_000),
        ("application/json", b'{"model": '),
        ("text/plain", b"model"),
    ],
)
def test_a_form_that_is_broken_is_named_as_such(web, kind, body):
    answer = web.post("/api/v2/videos/upscales", headers={"Content-Type": kind}, content=body)
    assert answer.status_code == 422 and answer.json()["errors"], answer.text


def test_json_has_a_size_that_is_parsed_at_once(web):
    body = b'{"model": "RealESRGAN_Vid_x4", "content": [' + b'"x",' * 6_000_000 + b'"x"]}'
    answer = web.post("/api/v2/videos/upscales/price", headers={"Content-Type": "application/json"}, content=body)
    assert answer.status_code == 413


def test_everything_a_request_holds_has_a_bound(web, clip):
    many = {"prefilters": ",".join(["denoise"] * 2), "preset": "x" * 60_000}
    answer = submit(web, clip(), headers={"Idempotency-Key": "k" * 300}, **many)
    assert set(answer.json()["errors"]) == {"prefilters", "preset", "idempotency_key"}
    assert len(answer.content) < 5000
    unknown = submit(web, clip(), prefilters=",".join(f"{n:x^9000}" for n in range(7)))
    assert set(unknown.json()["errors"]) == {"prefilters"} and len(unknown.content) < 3000


def test_an_estimate_learns_from_the_jobs_that_were_done(web, poll, clip):
    measures = {"width": 640, "height": 360, "duration": 2, "model": "RealESRGAN_Vid_x2"}
    poll(submit(web, clip()).json()["data"]["request_id"])
    learned = web.post("/api/v2/videos/upscales/price", json=measures).json()["data"]["estimated_seconds"]
    assert learned > 0 and learned != pytest.approx(640 * 360 * 60 * UNKNOWN_SECONDS_PER_PIXEL, rel=1e-3)


def test_a_job_is_advised_on_by_what_is_measured_on_its_source(web, clip):
    request_id = submit(web, clip()).json()["data"]["request_id"]
    found = web.get(f"/api/v2/jobs/{request_id}/advice").json()["data"]
    assert found["interlaced"] == "none" and {found["blocks"], found["noise"]} <= {"none", "little", "much"}
    small = {
        "rule": "small",
        "say": "below 540p: upscale four times",
        "setting": "model",
        "value": "RealESRGAN_Vid_x4",
    }
    assert found["advice"][0] == small and found["advice"][-1]["rule"] == "grade"
    assert web.get(f"/api/v2/jobs/{request_id[::-1]}/advice").status_code == 404


def test_no_model_is_listed_before_one_was_loaded_and_jobs_are_taken_and_cancelled_all_the_same(tmp_path, clip):
    with (
        ServerProcess(tmp_path / "state", workers=0) as server,
        httpx.Client(base_url=server.base, headers=HEADERS, timeout=60) as web,
    ):
        body = web.get("/api/v2/models").json()
        assert (body["data"], body["meta"]["total"], web.get("/readyz").status_code) == ([], 0, 503)
        request_id = submit(web, clip()).json()["data"]["request_id"]
        answer = web.post(f"/api/v2/jobs/{request_id}/cancel").json()["data"]
        assert (answer["status"], answer["error_reason"]) == ("error", "CANCELLED")


def test_models_work_one_after_the_other(web, poll, clip, tmp_path):
    answer = submit(web, clip(), model=None, models="RealESRGAN_Vid_x2, RealESRGAN_Vid_x2")
    assert answer.status_code == 200, answer.text
    request_id = answer.json()["data"]["request_id"]
    done = poll(request_id)
    (tmp_path / "out.mp4").write_bytes(httpx.get(done["result_url"]).content)
    assert referee.size(tmp_path / "out.mp4") == (256, 192)
    (entry,) = web.get("/api/v2/jobs?limit=1").json()["data"]
    assert entry["model"] == "RealESRGAN_Vid_x2 + RealESRGAN_Vid_x2"
    wrong = submit(web, clip(), model="RealESRGAN_Vid_x4", models="RealESRGAN_Vid_x2,x9").json()["errors"]
    assert (
        "x9" not in wrong.get("video", [])
        and "first of the models" in wrong["model"][0]
        and "invalid" in wrong["models"][0]
    )


def test_models_are_listed_in_pages(server, web, tmp_path):
    server.ready()
    body = web.get("/api/v2/models?limit=1").json()
    assert body["meta"] == {"current_page": 1, "last_page": 2, "per_page": 1, "total": 2}
    assert body["links"]["prev"] is None and httpx.get(body["links"]["next"], headers=HEADERS).json()["data"]
    (model,) = body["data"]
    assert model["inference_types"] == ["vid-upscale"]
    assert model["info"]["limits"]["max_video_duration_seconds"] == 15
    assert model["info"]["limits"]["max_scale"] is None
    with ServerProcess(tmp_path / "state") as free, httpx.Client(base_url=free.ready().base, headers=HEADERS) as own:
        limits = [model["info"]["limits"] for model in own.get("/api/v2/models").json()["data"]]
        # There are no limits unless the operator sets them.
        assert [limit["max_video_duration_seconds"] for limit in limits] == [None, None]
    assert web.get("/api/v2/models?filter[inference_types]=txt2img").json()["data"] == []
    assert web.get("/api/v2/models?limit=999&page=x").json()["meta"]["per_page"] == 50
    assert web.get("/api/v2/account/balance").json()["data"]["balance"] > 0


def test_older_clients_find_the_same_under_v1(web, poll, clip):
    with clip().open("rb") as file:
        data = {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast"}
        answer = web.post("/api/v1/client/vid-upscale", files={"video": file}, data=data)
    request_id = answer.json()["data"]["request_id"]
    assert poll(request_id, "/api/v1/client/request-status")["status"] == "done"
    assert web.get(f"/api/v2/jobs/{request_id}").json()["data"]["status"] == "done"
    measures = {"model": "RealESRGAN_Vid_x2", "width": 64, "height": 48}
    price = web.post("/api/v1/client/vid-upscale/price-calculation", data=measures)
    assert price.json()["data"]["price"] == 0
    assert web.get("/api/v1/client/models").json()["data"] and web.get("/api/v1/client/balance").json()["data"]


def test_health_readiness_metrics_and_openapi_need_no_key(server):
    assert httpx.get(f"{server.base}/healthz").status_code == 200
    server.ready()
    assert httpx.get(f"{server.base}/readyz").status_code == 200
    metrics = httpx.get(f"{server.base}/metrics").text
    assert "upres_ready 1.0" in metrics and "upres_queue_jobs" in metrics
    paths = httpx.get(f"{server.base}/openapi.json").json()["paths"]
    assert "/api/v2/videos/upscales" in paths


def test_jobs_are_listed_cancelled_and_deleted(web, server, clip):
    clips = [submit(web, clip()).json()["data"]["request_id"] for _ in range(3)]
    listed = []
    page = web.get("/api/v2/jobs?limit=1").json()
    while len(listed) < 3:
        listed += [job["request_id"] for job in page["data"]]
        page = web.get(f"/api/v2/jobs?limit=1&cursor={page['next']}").json()
    assert listed == clips[::-1]
    newest = web.get("/api/v2/jobs").json()["data"][0]
    assert newest["model"] == "RealESRGAN_Vid_x2" and not newest["live"] and newest["created_at"]
    with Rpc(server.target) as rpc:
        for request_id in clips:
            assert list(rpc.watch(request_id))[-1].event == "done"
    ended = web.post(f"/api/v2/jobs/{clips[0]}/cancel")
    assert ended.status_code == 422 and "ended" in ended.text
    assert web.delete(f"/api/v2/jobs/{clips[0]}").status_code == 200
    for answer in (
        web.get(f"/api/v2/jobs/{clips[0]}"),
        web.delete(f"/api/v2/jobs/{clips[0]}"),
        web.post("/api/v2/jobs/none/cancel"),
    ):
        assert answer.status_code == 404
    assert clips[0] not in web.get("/api/v2/jobs?limit=50").text
    for wrong in ("limit=0", "limit=51", "cursor=x"):
        assert web.get(f"/api/v2/jobs?{wrong}").status_code == 422
