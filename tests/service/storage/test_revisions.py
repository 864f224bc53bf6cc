"""Databases of other versions: a real file of upres 0.1 is migrated, a newer one is rejected, a damaged one is explained."""

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from paths import ROOT

from upres.service.auth.api_keys import Keys
from upres.service.domain.errors import StoreError
from upres.service.domain.states import State, Status
from upres.service.storage.job_store import Store
from upres.service.storage.migrations import FOLDER
from upres.service.storage.results import keys
from upres.service.storage.schema import REVISION, metadata
from upres.service.webhooks.deliveries import Deliveries

OLD = ROOT / "tests" / "data" / "version-1.db"  # written by upres 0.1 at commit 5a985b1
DONE, HALF = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def old(tmp_path):
    return shutil.copy(OLD, tmp_path / "jobs.db")


def revision(path):
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def test_a_database_of_the_first_version_is_upgraded_with_all_that_it_holds(old):
    for _ in range(2):  # the second start has nothing to migrate
        store = Store(f"sqlite:///{old}")
        done, half = store.get(DONE, "alice"), store.get(HALF)
        assert done.state == State(Status.DONE, 1, 100.0) and done.totals["bytes"] == 1234
        assert keys(done.result_prefix, DONE)[0] == f"{DONE}.mp4"  # its result stays where it is
        assert half.state.status is Status.PROCESSING and len(store.unfinished()) == 2
        assert Keys(store).owner("upres_a_key_of_the_old_version_0001") == "alice"
        assert store.meta("link_secret", lambda: "new") == "00" * 32
        assert sum(Deliveries(store).counts().values()) == 3
        store.close()
        assert revision(old) == REVISION


def test_a_new_database_and_an_upgraded_one_have_the_tables_that_the_code_uses(old, tmp_path):
    for path in (old, tmp_path / "new.db"):
        Store(f"sqlite:///{path}").close()
        engine = sa.create_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        engine.dispose()
    assert ScriptDirectory(str(FOLDER)).get_current_head() == REVISION


def test_starts_at_once_upgrade_once(old):
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: Store(f"sqlite:///{old}"), range(4)))
    assert len({store.result_prefix for store in stores}) == 1
    for store in stores:
        store.close()


def test_a_database_of_a_newer_version_is_refused_with_what_to_do(old):
    Store(f"sqlite:///{old}").close()
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match=r"created by a newer upres \(revision 9999.*install that version"):
        Store(f"sqlite:///{old}")


@pytest.mark.parametrize("damage", ["not a database", "a torn page"])
def test_a_damaged_database_is_explained(old, damage):
    data = bytearray(OLD.read_bytes())
    if damage == "not a database":
        data[:4096] = b"x" * 4096
    else:
        data[4096 : len(data) - 4096] = b"\xff" * (len(data) - 8192)
    old.write_bytes(data)
    with pytest.raises(StoreError, match=r"jobs\.db: the database is damaged .*backup.*\.recover"):
        Store(f"sqlite:///{old}")
