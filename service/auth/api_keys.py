"""API keys: made here, kept as hashes only, compared in constant time."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

import sqlalchemy as sa

from upres.engine.core.errors import SettingsError
from upres.service.domain.errors import ConflictError, NotFoundError
from upres.service.storage.job_store import Store
from upres.service.storage.schema import keys

PREFIX = "upres_"
_ALL = sa.select(keys.c.name, keys.c.hash, keys.c.created_at, keys.c.revoked_at).order_by(keys.c.created_at)


@dataclass(frozen=True, slots=True)
class Key:
    """One API key. times: Unix seconds."""

    name: str
    hash: str
    created_at: float
    revoked_at: float | None = None


class Keys:
    """The keys of one server."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, name: str, secret: str | None = None) -> str:
        """Make a key, or take the one given; the only time its text is seen.

        Raises ConflictError where the name is taken, by a revoked key too, for jobs belong to names; SettingsError without one.
        """
        if not name.strip():
            raise SettingsError("a key needs a name, which says whose it is")
        secret = secret or PREFIX + secrets.token_urlsafe(32)
        with self._store.transaction() as connection:
            if connection.scalar(sa.select(keys.c.name).where(keys.c.name == name)):
                raise ConflictError(f"there is a key named {name!r} already, or was one; choose another name")
            connection.execute(keys.insert().values(name=name, hash=_hash(secret), created_at=time.time()))
        return secret

    def put(self, name: str, secret: str) -> None:
        """Make this the key of this name, whatever it was before."""
        with self._store.transaction() as connection:
            connection.execute(keys.delete().where((keys.c.name == name) | (keys.c.hash == _hash(secret))))
            connection.execute(keys.insert().values(name=name, hash=_hash(secret), created_at=time.time()))

    def revoke(self, name: str) -> None:
        """Take a key out of use; NotFoundError where none of this name is in use."""
        with self._store.transaction() as connection:
            query = keys.update().where(keys.c.name == name, keys.c.revoked_at.is_(None))
            if not connection.execute(query.values(revoked_at=time.time())).rowcount:
                raise NotFoundError(f"there is no key named {name!r} in use")

    def all(self) -> list[Key]:
        """List every key, oldest first, revoked ones too."""
        with self._store.snapshot() as connection:
            return [Key(*row) for row in connection.execute(_ALL)]

    def in_use(self) -> set[str]:
        """List the names of the keys that are not revoked."""
        return {key.name for key in self.all() if key.revoked_at is None}

    def owner(self, secret: str) -> str | None:
        """Give the name of the key that this is the text of; None where it is unknown or revoked."""
        hashed = _hash(secret)
        name = None
        for key in self.all():
            if hmac.compare_digest(key.hash, hashed) and key.revoked_at is None:
                name = key.name
        return name


def _hash(secret: str) -> str:
    """Keys are 256 random bits, so one round is enough; a key set by hand should be as long. Any text of JSON's has a hash."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
