"""Log of a server: JSON lines from every process, each with its job, and without secrets."""

import asyncio
import json
import logging
import sqlite3
import subprocess
import sys
import time

import httpx
import pytest
from receiver import receiving
from serving import KEY, Rpc, ServerProcess

from upres.service.domain import job_logging
from upres.service.domain.repeated_lines import MOST_PASSED_ON
from upres.v2 import upscale_pb2 as pb

SECRET, TOKEN, WRONG = (
    "a-webhook-secret-of-more-than-32-bytes",
    "token-of-the-receiver",
    "upres_a_key_that_is_not_in_use",
)
ODD = [
    "",
    "[" * 100_000,
    '{"level": 3}',
    '{"level": [], "logger": 1, "message": 2, "time": "x", "request_id": null}',
    '{"level": "INFO", "logger": 1, "message": 2, "time": "x", "request_id": null}',
    '{"level": "INFO", "logger": 1, "message": 2, "time": 5, "request_id": null}',
    '{"level": "INFO", "logger": 1, "message": 2, "time": "0001-01-01T00:00:00+23:59", "request_id": null}',
]
FIELDS = {"time", "level", "logger", "request_id", "message"}


@pytest.fixture
def configured(monkeypatch, capsys):
    """Configure logging as a server does, and restore it afterwards."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr("threading.excepthook", None)
    yield lambda form: (job_logging.configure(form), capsys)[1]
    logging.captureWarnings(capture=False)


def test_a_line_is_json_with_its_job_in_whatever_thread_it_is_logged(configured):
    captured = configured("json")

    async def scenario():
        job_logging.bind_job_id("job-1")
        await asyncio.to_thread(logging.getLogger("upres.x").warning, "%d\nfrogs", 2)
        with job_logging.about("job-2"):
            logging.getLogger("upres.x").info("in between")
        logging.getLogger("upres.x").debug("not told")

    asyncio.run(scenario())
    first, second = map(json.loads, captured.readouterr().err.splitlines())
    assert set(first) == FIELDS and first["time"].endswith("+00:00")
    assert (first["level"], first["logger"], first["message"]) == ("WARNING", "upres.x", "2\nfrogs")
    assert (first["request_id"], second["request_id"]) == ("job-1", "job-2")


def test_what_another_process_said_is_passed_on_as_it_was_meant(configured):
    captured = configured("json")
    line = {
        "time": "2026-01-02T03:04:05.678+00:00",
        "level": "ERROR",
        "logger": "a.b",
        "request_id": "j",
        "message": "%s",
    }
    job_logging.log_forwarded(json.dumps(line), source=1)
    job_logging.log_forwarded("libx said: {", source=1)
    for odd in ODD:
        job_logging.log_forwarded(odd, source=1)
    first, second, *others = map(json.loads, captured.readouterr().err.splitlines())
    assert first == line
    assert (second["level"], second["message"]) == ("WARNING", "libx said: {")
    assert [other["message"] for other in others] == [odd[: job_logging.MOST_CHARACTERS] for odd in ODD]


def test_another_process_fills_no_disk_whatever_it_calls_its_lines(configured):
    captured = configured("json")
    for number in range(5 * MOST_PASSED_ON):
        line = {
            "time": "2026-01-02T03:04:05+00:00",
            "level": "INFO",
            "logger": f"l{number}",
            "request_id": "j",
            "message": "x",
        }
        job_logging.log_forwarded(json.dumps(line), source=1)
    job_logging.log_forwarded("from a second one", source=2)
    lines = captured.readouterr().err.splitlines()
    assert len(lines) == MOST_PASSED_ON + 1
    assert "from a second one" in lines[-1]


def test_text_is_for_people(configured):
    captured = configured("text")
    logging.getLogger("upres.x").warning("a line")
    assert captured.readouterr().err.endswith(" WARNING upres.x - a line\n")


def test_what_ends_a_process_is_a_line(tmp_path):
    code = (
        "from upres.service.domain import job_logging; job_logging.configure(); job_logging.bind_job_id('job-1'); 1 / 0"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    line = json.loads(done.stderr)
    assert done.returncode == 1 and (line["level"], line["request_id"]) == ("CRITICAL", "job-1")
    assert "ZeroDivisionError" in line["exc_info"]


def test_warnings_and_ignored_exceptions_are_lines():
    code = """
import warnings
from upres.service.domain import job_logging
job_logging.configure("json")
warnings.warn("is deprecated", DeprecationWarning, stacklevel=1)
class Broken:
    def __del__(self):
        raise ValueError("too late")
broken = Broken()
del broken
"""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    warned, ignored = map(json.loads, done.stderr.splitlines())
    assert (warned["level"], warned["logger"]) == ("WARNING", "py.warnings") and "is deprecated" in warned["message"]
    assert ignored["level"] == "ERROR" and "ValueError: too late" in ignored["exc_info"]


def submit(server, clip, url):
    fields = {"model": "RealESRGAN_Vid_x2", "webhook_url": url, "webhook_secret": SECRET, "preset": "ultrafast"}
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.base, headers=headers, timeout=60) as web, Rpc(server.target) as rpc:
        files = {"video": ("a.mp4", clip.read_bytes(), "video/mp4")}
        answer = web.post("/api/v2/videos/upscales", files=files, data=fields)
        request_id = answer.json()["data"]["request_id"]
        assert list(rpc.watch(request_id))[-1].event == "done"
        data = web.get(f"/api/v2/jobs/{request_id}").json()["data"]
        assert web.get(data["result_url"]).status_code == web.get(data["preview"]).status_code == 200
        assert web.get(data["result_url"] + "0").status_code == 404
        auth = {"socket_id": "1.2", "channel_name": "private-client.default"}
        opened = web.post("/broadcasting/auth", data=auth).json()["auth"]
    return request_id, [data["result_url"], data["preview"], opened]


def test_a_full_run_is_told_by_job_and_holds_no_secret(tmp_path, clip):
    with receiving() as receiver:
        receiver.answers.appendleft(500)
        settings = {"webhook_http": True, "webhook_hosts": ["127.0.0.1"], "log_format": "json"}
        with ServerProcess(tmp_path / "state", **settings) as server:
            url = receiver.url("127.0.0.1", f"/hook?token={TOKEN}").replace("//", f"//user:{TOKEN}@")
            request_id, links = submit(server, clip("a.mp4", 1), url)
            with Rpc(server.target) as rpc:
                streamed = rpc.create(
                    clip("a.mp4", 1).read_bytes(), pb.UpscaleConfig(model="RealESRGAN_Vid_x4")
                ).request_id
                assert list(rpc.watch(streamed))[-1].event == "done"
            assert (
                httpx.get(f"{server.base}/api/v2/models", headers={"Authorization": f"Bearer {WRONG}"}).status_code
                == 401
            )
            receiver.bodies(1)
            end = time.monotonic() + 20
            while '"webhook' not in server.log.read_text():  # the response is still on its way to the server
                assert time.monotonic() < end
                time.sleep(0.01)
            assert server.stop() == 0
    lines = server.lines
    assert all(set(line) - {"exc_info"} == FIELDS for line in lines)
    for job in (request_id, streamed):
        loggers = {line["logger"] for line in lines if line["request_id"] == job}
        assert loggers >= {
            f"upres.service.{name}" for name in ("jobs.scheduler", "jobs.attempts.starter", "execution.attempt.verdict")
        }
    text = server.log.read_text()
    assert any("webhook" in line["message"] and line["request_id"] == request_id for line in lines)
    with sqlite3.connect(tmp_path / "state" / "upres.db") as database:
        own = [value for name, value in database.execute("select name, value from meta") if name.endswith("secret")]
    database.close()
    signatures = [link.rpartition("=")[2].rpartition(":")[2] for link in links]
    assert len(own) == 2
    for secret in (KEY, WRONG, SECRET, TOKEN, "signature=", *own, *signatures):
        assert secret not in text


def test_lines_name_the_trace_that_they_are_of_and_none_that_an_attempt_makes_up(configured):
    captured, trace, span = configured("json"), "ab" * 16, "cd" * 8

    with job_logging.about("job-1", f"00-{trace}-{span}-01"):
        logging.getLogger("upres.x").info("one")
        with job_logging.about("job-2"):
            logging.getLogger("upres.x").info("two")
    logging.getLogger("upres.x").info("three")
    line = {
        "time": "2026-11-28T00:00:00+00:00",
        "level": "INFO",
        "logger": "upres.x",
        "message": "m",
        "request_id": "job-1",
    }
    for ids in (
        {"trace_id": trace, "span_id": span},
        {"trace_id": "x" * 9999, "span_id": [span]},
        {"trace_id": trace + "\n"},
    ):
        job_logging.log_forwarded(json.dumps({**line, **ids}), source=0)
    lines = map(json.loads, captured.readouterr().err.splitlines())
    assert [(line.get("trace_id"), line.get("span_id")) for line in lines] == [
        (trace, span),
        (trace, span),
        (None, None),
        (trace, span),
        (None, None),
        (None, None),
    ]
