"""A file on the web is read like a local one, even if connections fail."""

import struct
import threading

import av
import fake
import pytest
from web_files import WebFiles

from upres.engine.api import upscale
from upres.engine.core.errors import Interrupted, SourceError, UnreachableError
from upres.engine.decode.openers import web
from upres.engine.decode.openers.web import TRIES, WebFile
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder

CONTENT = bytes(range(256)) * 4096


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(web, "PAUSE_SECONDS", 0)


@pytest.fixture
def server(clip):
    files = {name: clip(name).read_bytes() for name in ("a.mp4", "a.ts", "a.mkv")}
    with WebFiles({**files, "data": CONTENT}) as server:
        yield server


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_a_clip_on_the_web_gives_what_it_gives_on_the_disk(server, clip, tmp_path, name):
    server.most = 30_000  # every connection breaks off
    there = fake.upscaled(server.url(name), tmp_path / "there.mp4")
    here = fake.upscaled(clip(name), tmp_path / "here.mp4")
    assert (tmp_path / "there.mp4").read_bytes() == (tmp_path / "here.mp4").read_bytes()
    assert there.frames_out == here.frames_out == 30
    assert len(server.requests) > 3


def test_any_place_can_be_read_from(server):
    with WebFile(server.url("data")) as file:
        for place, size in ((700_000, 9), (12, 5), (20, 6), (500_000, 10_000), (0, 1), (len(CONTENT) - 3, 3)):
            assert file.seek(place) == place
            assert file.read(size) == CONTENT[place : place + size]
        assert file.read(9) == b""
        assert file.seek(-2, 2) == len(CONTENT) - 2
    assert len(server.requests) == 6  # short seeks forward discard a few bytes and send no request


def test_a_server_that_is_busy_is_asked_again(server):
    server.answers.extend([503, 429, 200, 503])
    server.most = 1 << 19
    with WebFile(server.url("data")) as file:
        assert file.read(len(CONTENT) // 2) + file.readall() == CONTENT


@pytest.mark.parametrize("status", [503, 404])
def test_a_server_that_gives_no_more_is_an_error_that_says_where(server, status):
    server.most = 1000
    with WebFile(server.url("data")) as file:
        assert len(file.read(1000)) == 1000
        server.answers.extend([status] * 9)
        with pytest.raises(SourceError, match=rf"/data: .*{status}") as raised:
            file.read(1)
    assert raised.value.transient == (status == 503)
    assert len(server.requests) == 1 + (TRIES - 1 if status == 503 else 1)


def test_a_file_that_changes_is_not_read_on(server):
    server.most = 1000
    with WebFile(server.url("data")) as file:
        file.read(1000)
        server.tag = '"2"'
        with pytest.raises(SourceError, match="has changed while it was read"):
            file.read(1)


def test_what_is_no_file_that_can_be_read_from_any_place_is_refused_with_what_works(server):
    with pytest.raises(SourceError, match="the server answers 404 Not Found"):
        WebFile(server.url("nothing"))
    server.ranges = False
    with pytest.raises(
        SourceError, match=r"does not support range requests, so fetch it first: curl -Lo data http://.*/data$"
    ):
        WebFile(server.url("data"))
    server.kind = "text/html"
    with pytest.raises(SourceError, match="is a page, not a video; yt-dlp may find"):
        WebFile(server.url("data"))


def test_a_server_that_sends_the_whole_file_for_an_open_range_is_read_by_ranges(server):
    """RFC 9110 lets a server ignore `bytes=0-`; one that announces ranges is asked for a bounded one before it is refused."""
    server.open_ranges = False
    with WebFile(server.url("data")) as file:
        assert file.readall() == CONTENT
        assert file.seek(500) == 500 and file.read(9) == CONTENT[500:509]
        assert file.seek(0) == 0 and file.read(9) == CONTENT[:9]
    server.ranges = False
    with pytest.raises(SourceError, match="does not support range requests"):
        WebFile(server.url("data"))


def test_the_command_that_fetches_a_file_shows_no_secret_and_overwrites_nothing(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    server.ranges = False
    with pytest.raises(SourceError) as refused:
        WebFile(server.url("a.mp4?signature=SECRET"))
    assert str(refused.value).endswith("fetch it first: curl -Lo a-2.mp4 FULL_ADDRESS")
    assert "SECRET" not in str(refused.value) and refused.value.file == "a-2.mp4"


def test_nobody_there_is_said_so(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(UnreachableError, match=r"cannot be reached \(.*refused\); try again later"):
        WebFile(server.url("data"))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (lambda url: url.replace("http:", "https:"), "the server may not support https on this port"),
        (lambda url: "http://nowhere.invalid/data", "check the name of the host"),
    ],
    ids=["no TLS", "no such host"],
)
def test_an_address_that_never_works_is_not_to_be_tried_later(server, address, words):
    with pytest.raises(UnreachableError, match=words) as refused:
        WebFile(address(server.url("data")))
    assert "try again later" not in str(refused.value)


@pytest.mark.parametrize("withheld", ["silent", "hold"], ids=["its answer", "the answer's body"])
def test_a_read_that_waits_ends_when_it_is_interrupted(server, withheld):
    server.most = 1000
    with WebFile(server.url("data")) as file:
        file.read(1000)
        server.arrived.clear()
        getattr(server, withheld).clear()
        thread = threading.Thread(target=lambda: (server.arrived.wait(60), file.interrupt()))
        thread.start()
        with pytest.raises(Interrupted):
            file.read(1)
        assert not getattr(server, withheld).is_set()
        thread.join(60)


def test_a_run_that_its_source_left_is_continued_to_the_same_bytes(server, tmp_path):
    def run(target, **settings):
        quick = Encoder(segment_seconds=0.2, preset="ultrafast")
        return upscale(server.url("a.ts"), target, fake.job(target, encoder=quick), **settings)

    server.most = 10_000
    run(tmp_path / "whole.mp4")
    target = tmp_path / "out.mp4"
    server.answers.extend([200] * (len(server.requests) - 3) + [503] * TRIES)
    with pytest.raises(UnreachableError, match=r"breaks off at byte .* 503") as raised:
        run(target)
    assert "the same command with `resume` continues from there" in raised.value.__notes__[0]
    assert run(target, resume=True).frames_resumed
    assert target.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_playlist_is_refused_with_what_records_it(server):
    with pytest.raises(SourceError, match=r"is a playlist, .*: ffmpeg -i 'http://.*/a.m3u8\?token=1' -c copy in.mkv"):
        Reader(server.url("a.m3u8?token=1"))


def test_bytes_from_another_place_are_taken_for_none(server):
    with WebFile(server.url("data")) as file:
        server.blocks = 1 << 16  # the server rounds the start of a range down to whole blocks
        file.seek(700_001)
        with pytest.raises(SourceError, match="sends bytes from 655360 on where 700001 was requested"):
            file.read(4)


@pytest.mark.parametrize("kinds", [(b"moof", b"mdat"), (b"mdat", b"free")])
def test_an_mp4_on_the_web_that_lacks_something_is_refused_after_few_questions(server, kinds):
    """Each box after one that is too large to skip is requested on a new connection."""
    pieces = b"".join(
        struct.pack(">I4s", size, kind) + bytes(size - 8) for kind, size in zip(kinds, (64, 300_000), strict=True)
    )
    server.files["cut.mp4"] = struct.pack(">I4s8x", 16, b"ftyp") + pieces * 60
    with pytest.raises(SourceError, match="not a video that can be read"):
        Reader(server.url("cut.mp4"))
    requests = len(server.requests)
    with pytest.raises(av.InvalidDataError), WebFile(server.url("cut.mp4")) as file:
        av.open(file)
    assert requests - (len(server.requests) - requests) < 40
