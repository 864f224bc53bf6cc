"""When a server starts, it does not touch kept jobs; while it serves, the event loop does not wait for the disk."""

import asyncio
import os
import threading
from contextlib import asynccontextmanager

import httpx
import sqlalchemy as sa
from serving import KEY, free_port

from upres.service.domain.request_id import new_id
from upres.service.server.app import Server
from upres.service.server.settings import Settings
from upres.service.storage import job_store
from upres.service.storage.job_store import Job, Store
from upres.service.storage.schema import events, jobs

KEPT = 200


def settings(state, **values):
    ports = {"grpc_port": free_port(), "http_port": free_port()}
    return Settings(state=state, api_key=KEY, models="fake:load", **{"workers": 0, **ports, **values})


@asynccontextmanager
async def running(values):
    server = Server(values)
    server.first_key()
    try:
        await server.start()
        yield server
    finally:
        await server.stop(1.0)


def keep(state, count):
    """Write ended jobs with their events to a database, as if this server had processed them long ago."""
    store = Store(f"sqlite:///{state}/upres.db")
    spec = {"model": "RealESRGAN_Vid_x2", "webhook_url": "https://hooks.example/"}
    rows = []
    for number in range(count):
        row = job_store._row(Job(new_id(), "alice", spec, number=number + 1, accepted=True, source_complete=True))
        rows.append({**row, "status": "done", "progress": 100.0, "ended_at": 1e12, "totals": {}})
    with store.transaction() as connection:
        connection.execute(jobs.insert(), rows)
        for kind in ("accepted", "processing", "done"):
            connection.execute(
                events.insert(),
                [
                    {"request_id": row["request_id"], "kind": kind, "status": kind, "progress": 0.0, "at": 1.0}
                    for row in rows
                ],
            )
    for row in rows:
        (state / "jobs" / row["request_id"]).mkdir(parents=True)
    store.close()


def test_a_start_touches_none_of_the_jobs_that_are_kept(tmp_path, monkeypatch):
    read, statements, listed = [], [], []
    one = job_store._job
    monkeypatch.setattr(job_store, "_job", lambda row: read.append(row) or one(row))
    scandir, listdir = os.scandir, os.listdir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(str(path)) or scandir(path))
    monkeypatch.setattr(os, "listdir", lambda path=".": listed.append(str(path)) or listdir(path))

    async def start(values):
        server = Server(values)
        server.first_key()
        sa.event.listen(server.store._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        await server.start()
        await server.stop(1.0)

    asyncio.run(start(settings(tmp_path)))
    keep(tmp_path, KEPT)
    for record in (read, statements, listed):
        record.clear()
    asyncio.run(start(settings(tmp_path)))
    assert len(read) == 0 < len(statements) < KEPT / 10
    assert listed and str(tmp_path / "jobs") not in listed


def test_nothing_waits_for_a_disk_in_the_event_loop(tmp_path, monkeypatch, fake_models, clip):
    synced, committed = [], []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(threading.get_ident()) or fsync(descriptor))

    async def scenario():
        async with running(settings(tmp_path / "state", workers=1)) as server:
            sa.event.listen(server.store._engine, "commit", lambda connection: committed.append(threading.get_ident()))
            async with asyncio.timeout(60):
                while not server.jobs.ready:
                    await asyncio.sleep(0.01)
            base = f"http://127.0.0.1:{server.http_port}"
            headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "once"}
            async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as web:
                files = {"video": clip("a.mp4", 1).read_bytes()}
                data = {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast"}
                answer = await web.post("/api/v2/videos/upscales", files=files, data=data)
                job = f"/api/v2/jobs/{answer.json()['data']['request_id']}"
                async with asyncio.timeout(60):
                    while (await web.get(job)).json()["data"]["status"] != "done":
                        await asyncio.sleep(0.01)
                result = (await web.get(job)).json()["data"]["result_url"]
                assert (await web.get(result)).status_code == 200
                assert (await web.get("/api/v2/jobs")).status_code == 200
                assert (await web.delete(job)).status_code < 300
        return threading.get_ident()

    loop = asyncio.run(scenario())
    assert synced and loop not in synced
    assert committed and loop not in committed
