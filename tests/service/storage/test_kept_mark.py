"""A store is recognized by an object in it: another one that has the same name is not used."""

import asyncio

import databases
import pytest

from upres.engine.core.errors import TargetError
from upres.service.storage.job_store import Store
from upres.service.storage.kept.mark import check_mark
from upres.service.storage.results import Results


@pytest.fixture
def database(tmp_path):
    store = Store(databases.url(tmp_path / "jobs.db"))
    yield store
    store.close()


def test_a_folder_that_is_not_mounted_is_not_taken_for_the_store(tmp_path, database):
    async def scenario():
        mounted = Results(str(tmp_path / "shared"), "job")
        for _ in range(2):
            await check_mark(mounted, database, "p/")
        (mark,) = await mounted.keys()
        (tmp_path / "shared").rename(tmp_path / "elsewhere")
        with pytest.raises(TargetError, match=rf"the object {mark} is missing.*UPRES_STORE.*mounted"):
            await check_mark(Results(str(tmp_path / "shared"), "job"), database, "p/")
        await check_mark(Results(str(tmp_path / "elsewhere"), "job"), database, "p/")

    asyncio.run(scenario())


def test_of_servers_that_start_at_once_with_different_stores_one_is_refused(tmp_path, database):
    async def scenario():
        stores = [Results(str(tmp_path / name), "job") for name in ("one", "two")]
        checks = [check_mark(store, database, "p/") for store in stores]
        outcomes = await asyncio.gather(*checks, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "TargetError"]

    asyncio.run(scenario())


def test_jobs_that_are_to_be_kept_elsewhere_mark_another_store(tmp_path, database):
    async def scenario():
        database.keep_jobs_in("one")
        await check_mark(Results(str(tmp_path / "one"), "job"), database, "p/")
        with database.transaction() as connection:
            connection.exec_driver_sql("DELETE FROM meta WHERE name = 'store'")
        database.keep_jobs_in("two")
        await check_mark(Results(str(tmp_path / "two"), "job"), database, "p/")

    asyncio.run(scenario())
