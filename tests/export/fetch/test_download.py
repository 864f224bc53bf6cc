import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from upres.engine.core.errors import SourceError
from upres.export.fetch.download import download

CONTENT = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """Server of CONTENT: /file with ranges, /whole without, /short is cut off, /gone does not exist."""

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if self.path == "/gone":
            self.send_error(404)
        elif self.path == "/file" and start >= len(CONTENT):
            self.send_error(416)
        elif self.path == "/file" and start:
            self.answer(206, CONTENT[start:], **{"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"})
        else:
            self.answer(200, CONTENT)

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:1000] if self.path == "/short" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        http_server.ranges = []
        http_server.url = f"http://127.0.0.1:{http_server.server_port}"
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield http_server
        http_server.shutdown()
        thread.join()


def test_a_file_comes_whole(server, tmp_path):
    download(f"{server.url}/file", tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("path", "received", "ranges"),
    [
        ("file", 3000, ["bytes=3000-"]),
        ("whole", 3000, ["bytes=3000-"]),
        ("file", len(CONTENT), [f"bytes={len(CONTENT)}-", None]),
    ],
)
def test_it_goes_on_from_what_is_there(server, tmp_path, path, received, ranges):
    """If the server does not support ranges, or has no more bytes, the download restarts."""
    (tmp_path / "file.part").write_bytes(CONTENT[:received])
    download(f"{server.url}/{path}", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == ranges


def test_what_breaks_off_is_kept_for_the_next_time(server, tmp_path):
    with pytest.raises(SourceError, match="cut off after 1000 of 10240 bytes; run the command again"):
        download(f"{server.url}/short", tmp_path / "file")
    assert not (tmp_path / "file").exists()
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]


def test_a_download_that_takes_too_long_ends_and_can_be_resumed(server, tmp_path):
    with pytest.raises(SourceError, match=r"too slow: .* run the command again to resume it"):
        download(f"{server.url}/file", tmp_path / "file", seconds=0)
    assert (tmp_path / "file.part").stat().st_size > 0
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(("path", "message"), [("gone", "404"), ("file", "more than 5000 bytes")])
def test_no_file_is_left_where_it_cannot_be_had(server, tmp_path, path, message):
    with pytest.raises(SourceError, match=f"the download failed: .*{message}"):
        download(f"{server.url}/{path}", tmp_path / "file", limit=5000)
    assert not (tmp_path / "file").exists()


def test_no_server_is_an_error_that_says_so(tmp_path):
    with pytest.raises(SourceError, match="refused"):
        download("http://127.0.0.1:9/file", tmp_path / "file")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/file", "/etc/hostname"])
def test_only_web_addresses_are_fetched(tmp_path, url):
    with pytest.raises(SourceError, match="not an http or https address"):
        download(url, tmp_path / "file")
