"""The v2 HTTP contract, over real HTTP to a real server process."""

import re
import sqlite3
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import media
import pytest
import referee
from serving import Rpc, ServerProcess
from web_calls import HEADERS, submit

from upres.service.jobs.reading import UNKNOWN_SECONDS_PER_PIXEL


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
    result = httpx.get(data["result_url"])
    assert (result.status_code, result.headers["content-type"]) == (200, "video/mp4")
    (tmp_path / "out.mp4").write_bytes(result.content)
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
    everything = httpx.get(url, headers={"Range": "bytes=0-"})  # players ask for it to see whether ranges are supported
    assert (everything.status_code, everything.content) == (206, whole)
    assert everything.headers["content-range"] == f"bytes 0-{len(whole) - 1}/{len(whole)}"
    assert httpx.get(url, headers={"Range": "bytes=0-1,5-6"}).status_code == 200
    assert httpx.get(url, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    head = httpx.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(whole)), b"")
    ranged = httpx.head(url, headers={"Range": "bytes=10-19"})  # ranges are for GET only: RFC 9110, section 14.2
    assert (ranged.status_code, ranged.headers["content-length"]) == (200, str(len(whole)))
    assert httpx.get(url.replace("signature=", "signature=0")).status_code == 404
    assert httpx.get(re.sub(r"expires=\d+", "expires=1", url)).status_code == 404
    assert httpx.get(urlsplit(url)._replace(query="").geturl()).status_code == 404


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


def test_a_trailing_slash_changes_nothing(server, web):
    for path in ("/api/v2/models", "/api/v2/account/balance", "/healthz", f"/api/v2/jobs/{uuid.uuid4()}"):
        with_slash, without = web.get(path + "/"), web.get(path)
        assert (with_slash.status_code, with_slash.json()) == (without.status_code, without.json())
    assert httpx.get(f"{server.base}/api/v2/models/").status_code == 401


def test_a_lossless_job_whose_frames_fill_whole_pages_of_memory_is_done(web, poll, tmp_path):
    path = media.clip(tmp_path / "a.mp4", picture="testsrc2=size=160x120:rate=10:duration=1")  # x4: 640x480
    submitted = submit(web, path, model="RealESRGAN_Vid_x4", codec="lossless")
    assert poll(submitted.json()["data"]["request_id"])["status"] == "done"


def test_an_estimate_learns_from_the_jobs_that_were_done(web, poll, clip):
    measures = {"width": 640, "height": 360, "duration": 2, "model": "RealESRGAN_Vid_x2"}
    poll(submit(web, clip()).json()["data"]["request_id"])
    learned = web.post("/api/v2/videos/upscales/price", json=measures).json()["data"]["estimated_seconds"]
    assert learned > 0 and learned != pytest.approx(640 * 360 * 60 * UNKNOWN_SECONDS_PER_PIXEL, rel=1e-3)


def test_a_job_is_advised_on_by_what_is_measured_on_its_source(web, clip):
    request_id = submit(web, clip()).json()["data"]["request_id"]
    advice = web.get(f"/api/v2/jobs/{request_id}/advice").json()["data"]
    assert advice["interlaced"] == "none" and {advice["blocks"], advice["noise"]} <= {"none", "little", "much"}
    small = {
        "rule": "small",
        "say": "below 540p: upscale four times",
        "setting": "model",
        "value": "RealESRGAN_Vid_x4",
    }
    assert advice["advice"][0] == small and advice["advice"][-1]["rule"] == "grade"
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
