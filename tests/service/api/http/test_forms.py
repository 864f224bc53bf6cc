"""Forms and JSON bodies of requests: every problem is named by its field, and prices are estimated from measures."""

import json

import media
import pytest
from web_calls import submit

GARBAGE = ("x.mp4", b"garbage" * 1000, "video/mp4")


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
