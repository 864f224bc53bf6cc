"""Addresses of results that open without a key for a while: signed and expiring."""

import hmac
import time
from hashlib import sha256

PATH = "/results/"


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

    def _sign(self, name: str, expires: int) -> str:
        return hmac.new(self._secret, f"{name}\n{expires}".encode(), sha256).hexdigest()
