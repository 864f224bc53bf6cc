"""URLs that can be opened without a key for a limited time: signed links to results, and URLs of live jobs."""

import hmac
import time
from hashlib import sha256

PATH = "/results/"
LIVE = "/live/"


class Links:
    """Links of one server. secret: known only to it. seconds: how long a link is valid."""

    def __init__(self, secret: str, seconds: float) -> None:
        self._secret = secret.encode()
        self._seconds = seconds

    def make(self, base: str, name: str) -> str:
        """Return a link to a result file."""
        expires = int(time.time() + self._seconds)
        return f"{base.rstrip('/')}{PATH}{name}?expires={expires}&signature={self._sign(name, expires)}"

    def holds(self, name: str, expires: int, signature: str) -> bool:
        """Return whether a link was signed by this server and has not expired."""
        genuine = hmac.compare_digest(self._sign(name, expires).encode(), signature.encode())
        return genuine and expires >= time.time()

    def make_live(self, base: str, request_id: str) -> str:
        """Return the URL of a live job for HLS players, valid until the job ends."""
        return f"{base.rstrip('/')}{LIVE}{request_id}/{self._sign(request_id, None)}/index.m3u8"

    def holds_live(self, request_id: str, token: str) -> bool:
        """Return whether the token of a live job was created by this server."""
        return hmac.compare_digest(self._sign(request_id, None).encode(), token.encode())

    def _sign(self, name: str, expires: int | None) -> str:
        return hmac.new(self._secret, f"{name}\n{expires}".encode(), sha256).hexdigest()
