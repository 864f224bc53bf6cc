"""API keys: generated here, stored only as hashes, and compared in constant time."""

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass

import sqlalchemy as sa

from upres.engine.core.errors import SettingsError
from upres.service.domain.errors import ConflictError, NotFoundError
from upres.service.storage.job_store import Store
from upres.service.storage.schema import keys

PREFIX = "upres_"
NAME = re.compile(r"[A-Za-z0-9_=@,.;-]+")  # legal characters in a Pusher channel, whose name contains that of the key
_ALL = sa.select(keys.c.name, keys.c.hash, keys.c.created_at, keys.c.revoked_at).order_by(keys.c.created_at)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key. Times are in Unix seconds."""

    name: str
    hash: str
    created_at: float
    revoked_at: float | None = None


class Keys:
    """The API keys of a database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, name: str, secret: str | None = None) -> str:
        """Create a key, by default with a random secret; return the secret, which cannot be read again.

        Raises ConflictError if the name is taken, even by a revoked key, as jobs belong to names; SettingsError for a name
        that is empty or has other characters than a Pusher channel.
        """
        if not NAME.fullmatch(name):
            raise SettingsError(
                "a key needs a name that identifies its owner, of letters of ASCII, digits and the characters _ - = @ , . ; "
                f"because it becomes part of a Pusher channel; got {name!r}"
            )
        secret = secret or PREFIX + secrets.token_urlsafe(32)
        with self._store.transaction() as connection:
            if connection.scalar(sa.select(keys.c.name).where(keys.c.name == name)):
                raise ConflictError(f"a key named {name!r} exists or existed before; choose another name")
            connection.execute(keys.insert().values(name=name, hash=_hash(secret), created_at=time.time()))
        return secret

    def put(self, name: str, secret: str) -> None:
        """Create or replace the key of this name."""
        with self._store.transaction() as connection:
            connection.execute(keys.delete().where((keys.c.name == name) | (keys.c.hash == _hash(secret))))
            connection.execute(keys.insert().values(name=name, hash=_hash(secret), created_at=time.time()))

    def revoke(self, name: str) -> None:
        """Revoke a key. Raises NotFoundError if no key of this name is in use."""
        with self._store.transaction() as connection:
            query = keys.update().where(keys.c.name == name, keys.c.revoked_at.is_(None))
            if not connection.execute(query.values(revoked_at=time.time())).rowcount:
                raise NotFoundError(f"there is no key named {name!r} in use")

    def all(self) -> list[Key]:
        """List all keys including revoked ones, oldest first."""
        with self._store.snapshot() as connection:
            return [Key(*row) for row in connection.execute(_ALL)]

    def in_use(self) -> set[str]:
        """List the names of the keys that are not revoked."""
        return {key.name for key in self.all() if key.revoked_at is None}

    def owner(self, secret: str) -> str | None:
        """Return the name of the key with this secret; None if it is unknown or revoked."""
        hashed = _hash(secret)
        name = None
        for key in self.all():
            if hmac.compare_digest(key.hash, hashed) and key.revoked_at is None:
                name = key.name
        return name


def _hash(secret: str) -> str:
    """Hash a secret. One round suffices for 256 random bits; a key set by hand should be as long. Lone surrogates are accepted."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
