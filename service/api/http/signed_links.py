"""Addresses that open without a key for a while: of results, signed and expiring, and of live jobs."""

import hmac
import time
from hashlib import sha256

PATH = "/results/"
LIVE = "/live/"


class Links:
    """Links of one server. secret: known to it only. seconds: how long a link is valid."""

    def __init__(self, secret: str, seconds: float) -> None:
        self._secret = secret.encode()
        self._seconds = seconds

    def make(self, base: str, name: str) -> str:
        """Make a link to a result's file."""
        expires = int(time.time() + self._seconds)
        return f"{base.rstrip('/')}{PATH}{name}?expires={expires}&signature={self._sign(name, expires)}"

    def holds(self, name: str, expires: int, signature: str) -> bool:
        """Check that a link is one of ours, and not expired."""
        ours = hmac.compare_digest(self._sign(name, expires).encode(), signature.encode())
        return ours and expires >= time.time()

    def make_live(self, base: str, request_id: str) -> str:
        """Make the address of a live job for players of HLS, which holds until the job ends."""
        return f"{base.rstrip('/')}{LIVE}{request_id}/{self._sign(request_id, None)}/index.m3u8"

    def holds_live(self, request_id: str, token: str) -> bool:
        """Check that a live job's token is one of ours."""
        return hmac.compare_digest(self._sign(request_id, None).encode(), token.encode())

    def _sign(self, name: str, expires: int | None) -> str:
        return hmac.new(self._secret, f"{name}\n{expires}".encode(), sha256).hexdigest()
