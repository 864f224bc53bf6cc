"""Worker processes as seen by the server."""

import asyncio
import json
import sys
from types import SimpleNamespace

import pytest

from upres.service.execution.base import ExecutorOptions
from upres.service.execution.local import LocalExecutor
from upres.service.execution.worker_process import WorkerProcess


@pytest.mark.parametrize("steps", range(5))
def test_it_stops_listening_when_told_to_even_as_a_line_comes(steps):
    async def scenario():
        process = SimpleNamespace(stdout=asyncio.StreamReader())
        listening = asyncio.create_task(WorkerProcess([], 1, 1)._listen(process, None))
        for _ in range(3):
            await asyncio.sleep(0)
        process.stdout.feed_data(b'{"report": "beat"}\n')
        for _ in range(steps):
            await asyncio.sleep(0)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(60):
                await listening

    asyncio.run(scenario())


def test_a_worker_that_dies_in_the_middle_of_a_word_has_died_and_no_more():
    async def scenario():
        process = SimpleNamespace(stdout=asyncio.StreamReader())
        process.stdout.feed_data(b'{"report": "beat"}\n{"report": "rea')
        process.stdout.feed_eof()
        await WorkerProcess([], 1, 1)._listen(process, None)

    asyncio.run(scenario())


def test_what_cannot_run_is_what_the_worker_said_last():
    async def unavailable_after(*reports):
        process = SimpleNamespace(stdout=asyncio.StreamReader())
        for unavailable in reports:
            report = {"report": "ready", "unavailable": unavailable}
            process.stdout.feed_data(json.dumps(report).encode() + b"\n")
        process.stdout.feed_eof()
        executor = LocalExecutor(ExecutorOptions(workers=2, slots=1, models="fake:load"))
        await executor._workers[1]._listen(process, nobody)
        return executor.unavailable

    async def nobody(request_id, report):
        pass

    assert asyncio.run(unavailable_after()) is None
    assert asyncio.run(unavailable_after({"FlashVSR_Tiny": "its weights are not here"}, {})) == {}


async def nobody(request_id, report):
    pass


def test_a_worker_is_read_while_its_reports_wait_for_the_database_and_of_a_kind_the_latest_is_taken():
    async def scenario():
        process, back, reports = SimpleNamespace(stdout=asyncio.StreamReader()), asyncio.Event(), []

        async def hear(request_id, report):
            await back.wait()
            reports.append(report.get("percent", report["report"]))

        def say(**report):
            process.stdout.feed_data(json.dumps({"request_id": "job", **report}).encode() + b"\n")

        worker = WorkerProcess([], 1, 1)
        worker._running.add("job")
        listening = asyncio.create_task(worker._listen(process, hear))
        async with asyncio.timeout(60):
            for percent in range(100):
                say(report="progress", percent=percent)
                while process.stdout._buffer:
                    await asyncio.sleep(0)
            say(report="joined", totals={})
            process.stdout.feed_eof()
            back.set()
            await listening
        assert reports == [0, 99, "joined"] and not worker._running

    asyncio.run(scenario())


def stub(folder, script):
    """A program that replaces Python for the worker."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def test_a_worker_that_could_not_be_started_is_started_as_soon_as_it_can_be(tmp_path, monkeypatch, fake_models, caplog):
    async def scenario():
        executor = LocalExecutor(ExecutorOptions(workers=1, slots=1, models="fake:load"))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(tmp_path / "nowhere"))
            await executor.start(nobody)
            while "nowhere" not in caplog.text:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            while not executor.ready:
                await asyncio.sleep(0.05)
        await executor.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("line", ["{}", "[1]", "no json", '{"report": "ready"}', '{"report": ["x"], "request_id": {}}'])
def test_a_worker_whose_reports_are_none_is_restarted(tmp_path, monkeypatch, line):
    async def scenario():
        executor = LocalExecutor(ExecutorOptions(workers=1, slots=1, models="fake:load"))
        monkeypatch.setattr(sys, "executable", stub(tmp_path, f"echo x >> {tmp_path}/starts; echo '{line}'; exec cat"))
        await executor.start(nobody)
        async with asyncio.timeout(60):
            while not (tmp_path / "starts").exists() or len((tmp_path / "starts").read_text()) < 4:
                await asyncio.sleep(0.05)
        await executor.stop()

    asyncio.run(scenario())


def test_a_worker_that_keeps_failing_is_reported_where_no_other_works(tmp_path, monkeypatch):
    async def scenario():
        monkeypatch.setattr("upres.service.domain.watched_tasks.FIRST_DELAY", 0)
        monkeypatch.setattr(sys, "executable", stub(tmp_path, f"echo x >> {tmp_path}/starts; exit 3"))
        failing = asyncio.Queue()
        options = ExecutorOptions(workers=2, on_failing=lambda name, error: failing.put_nowait((name, str(error))))
        executor = LocalExecutor(options)
        executor._workers[0].keep = works(executor._workers[0])
        await executor.start(nobody)
        async with asyncio.timeout(60):
            while not (tmp_path / "starts").exists() or len((tmp_path / "starts").read_text()) < 16:  # eight lines
                await asyncio.sleep(0.01)
            assert failing.empty()
            await executor.stop()
            executor = LocalExecutor(options)
            await executor.start(nobody)
            name, error = await failing.get()
        await executor.stop()
        assert name.startswith("worker") and "a worker died (3)" in error

    def works(worker):
        async def keep(on_report):
            worker.ready = True
            await asyncio.Event().wait()

        return keep

    asyncio.run(scenario())
