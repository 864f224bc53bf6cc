"""Download of a file by URL: resumable, limited in size, and visible under its name only when complete."""

import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from upres.engine.core.errors import SourceError

CHUNK = 1 << 20
LIMIT = 256 << 20
"""Maximum size in bytes. The largest weights of RealESRGAN are 67 MB."""
TIMEOUT_SECONDS = 30.0
"""Timeout for the next bytes from the server."""
DOWNLOAD_SECONDS = 3600.0
"""Timeout for the whole download."""


def download(url: str, target: Path, *, limit: int = LIMIT, seconds: float = DOWNLOAD_SECONDS) -> None:
    """Download a URL to a file; a partial download is kept in `TARGET.part` and resumed.

    Raises SourceError if the URL is not http(s), the server does not respond, or the download is interrupted, exceeds the size
    limit or takes longer than `seconds`.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise SourceError(f"{url} is not an http or https address")
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(url, part, limit, time.monotonic() + seconds)
    except (OSError, ValueError, HTTPException) as error:
        raise SourceError(f"the download failed: {error}") from error
    part.replace(target)


def _fetch(url: str, part: Path, limit: int, deadline: float) -> None:
    offset = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        part.unlink()  # the file on the server has changed
        return _fetch(url, part, limit, deadline)
    with response:
        if not _continues(response, offset):
            offset = 0
        announced = int(response.headers.get("Content-Length") or 0)
        received = 0
        with part.open("ab" if offset else "wb") as file, closing(_chunks(response, url, announced)) as chunks:
            for chunk in chunks:
                received += len(chunk)
                if offset + max(received, announced) > limit:
                    raise OSError(f"more than {limit} bytes, so these cannot be the weights")
                file.write(chunk)
                if time.monotonic() > deadline:
                    raise OSError(f"it is too slow: {received} bytes so far; run the command again to resume it")
    if received < announced:
        raise OSError(f"it was cut off after {received} of {announced} bytes; run the command again to resume it")
    return None


def _continues(response: HTTPResponse, offset: int) -> bool:
    return response.status == HTTPStatus.PARTIAL_CONTENT and (
        response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
    )


def _chunks(response: HTTPResponse, url: str, announced: int) -> Generator[bytes]:
    """Yield chunks as they arrive, with a progress bar on stderr."""
    columns = "{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(url.rsplit("/", 1)[-1], total=announced or None)
        while chunk := response.read1(CHUNK):
            progress.advance(task, len(chunk))
            yield chunk
