"""Faults between a worker and its store, with a real store whose calls fail when they are told to."""

import asyncio
import contextlib
import os
import threading
import time
from types import SimpleNamespace

import pytest

from heavylift import worker as worker_module
from heavylift.core import lifecycle
from heavylift.core.errors import StoreUnavailable
from heavylift.core.options import Options, Slots
from heavylift.core.outcome import Interrupted
from heavylift.core.tally import MOST_NAMES, OTHER, Fault
from heavylift.core.task import Task
from heavylift.executors.inline import Inline
from heavylift.settings import Settings
from heavylift.store import SystemClock, WorkerRecord
from heavylift.stores import open_store
from heavylift.stores.sqlite.workers import boot_id, pid_namespace
from heavylift.testing.clock import FakeClock
from heavylift.worker import Worker

LOST = Interrupted("its worker vanished", lost=True)


class Flaky:
    """A store; while `away` is set, its calls fail."""

    def __init__(self, store):
        self._store, self.away = store, False

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if name not in ("claim", "save", "beat", "sweep", "count", "get", "retire"):
            return found

        async def call(*values, **named):
            if self.away:
                message = "the disk is gone"
                raise StoreUnavailable(message)
            return await found(*values, **named)

        return call


class Setting:
    """A worker on a flaky store, with a task that runs until it may end."""

    def __init__(self, url):
        self.url = url
        self.go = threading.Event()
        task = Task("hold", self.hold, Options())
        self.application = SimpleNamespace(registry={"hold": task}, host_start_hooks=[], dependency_overrides={})

    def hold(self) -> None:
        self.go.wait(30)

    @contextlib.asynccontextmanager
    async def working(self, beat="50ms"):
        settings = Settings.load({}, beat=beat, lease="10s", sweep="50ms", poll="50ms", drain="100ms")
        self.store = Flaky(open_store(self.url))
        await self.store.open()
        executor = Inline(self.application, settings)
        await executor.start()
        record = WorkerRecord("mine", 1, "here", os.getpid(), 1, "boot", "namespace", 1, started_at=time.time())
        worker = Worker(self.store, executor, settings, record, SystemClock())
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            self.go.set()
            worker.drain(0.1)
            await asyncio.wait_for(running, 30)
            await executor.close(1.0)
            await self.store.close()

    async def submit(self, name):
        await self.store.add([lifecycle.submit(name, "hold", b"{}", Options(), time.time())])
        await self.until(lambda job: job.state == "running", name)

    async def until(self, condition, name):
        async with asyncio.timeout(30):
            while not condition((await self.store.get([name]))[0]):
                await asyncio.sleep(0.01)


async def becomes(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def counted(worker, fault):
    return worker._journal.tally.total().get(("faults", fault.value), 0)


def told(caplog, fault):
    return [record for record in caplog.records if getattr(record, "fault", None) == fault.value]


@pytest.fixture
def setting(tmp_path):
    return Setting(f"sqlite:///{tmp_path}/jobs.db")


async def test_a_store_that_is_away(setting, caplog):
    async with setting.working() as worker:
        await setting.submit("a")
        setting.store.away = True
        await becomes(lambda: counted(worker, Fault.STORE_UNAVAILABLE) >= 2)
        setting.store.away = False
        setting.go.set()
        await setting.until(lambda job: job.state == "succeeded", "a")
        assert len(told(caplog, Fault.STORE_UNAVAILABLE)) >= 2
        assert "the disk is gone" in told(caplog, Fault.STORE_UNAVAILABLE)[0].getMessage()
        # What was counted while it was away comes into it later, and once.
        await setting.until(lambda _: True, "a")
        key = ("faults", "store_unavailable")
        async with asyncio.timeout(30):
            while (await setting.store.counts()).get(key) != worker._journal.tally.total()[key]:
                await asyncio.sleep(0.01)


async def test_a_lease_that_is_lost_and_an_outcome_that_comes_too_late(setting, caplog):
    clock = FakeClock()
    clock.set_wall(time.time())
    clock.advance(time.monotonic() + 10_000 - clock.monotonic())
    async with setting.working() as worker:
        await setting.submit("a")
        other = open_store(setting.url, clock)
        await other.open()
        [orphan] = await other.sweep("other", others=True)
        assert await other.save([lifecycle.settle(orphan, LOST, time.time() + 1000)]) != [None]
        await becomes(lambda: counted(worker, Fault.LEASE_LOST) == 1)
        [whole, single] = told(caplog, Fault.LEASE_LOST)
        assert (whole.levelname, single.job, single.attempt, single.task) == ("ERROR", "a", 1, "hold")
        setting.go.set()
        await becomes(lambda: worker.record.epoch == 2)
        await other.close()


async def test_an_outcome_of_an_attempt_that_is_not_the_jobs_any_more(setting, caplog):
    async with setting.working() as worker:
        await setting.submit("a")
        [job] = await setting.store.get(["a"])
        # As if another worker had settled it: the fence has gone on, and this worker has not heard of it.
        assert await setting.store.save([lifecycle.settle(job, LOST, time.time() + 1000)]) != [None]
        setting.go.set()
        await becomes(lambda: counted(worker, Fault.STALE_WRITE) >= 1)
        [line] = told(caplog, Fault.STALE_WRITE)
        assert (line.job, line.attempt) == ("a", 1)
        assert line.getMessage() == "a stale outcome of job a, attempt 1, was refused"


async def test_a_job_that_did_not_begin_in_time(setting, caplog):
    async with setting.working() as worker:
        options = Options(expires=0.05, delay=3600, queue="q", labels={"tenant": "acme"})
        await setting.store.add([lifecycle.submit("a", "hold", b"{}", options, time.time())])
        await setting.until(lambda job: job.state == "failed", "a")
        await becomes(lambda: counted(worker, Fault.EXPIRED) == 1)
        assert worker._journal.tally.total()["finished", "hold", "failed"] == 1
        [line] = told(caplog, Fault.EXPIRED)
        assert (line.job, line.attempt, line.task, line.queue) == ("a", 0, "hold", "q")
        assert (line.labels, line.levelname) == ({"tenant": "acme"}, "WARNING")
        assert line.getMessage() == "job a (hold) has expired: it did not begin in time"


async def test_a_job_that_is_lost_for_good_is_counted_as_failed(setting):
    store = open_store(setting.url)
    await store.open()
    [job] = [lifecycle.submit("a", "hold", b"{}", Options(losses=1), time.time())]
    await store.add([job])
    await store.beat(WorkerRecord("gone", 1, "here", os.getpid(), 1, boot_id(), pid_namespace(), 1), 60)
    assert len(await store.claim("gone", 1, Slots(1))) == 1
    async with setting.working() as worker:
        await setting.until(lambda job: job.state == "failed", "a")
        await becomes(lambda: counted(worker, Fault.LOSS) == 1)
        assert worker._journal.tally.total()["finished", "hold", "failed"] == 1
    await store.close()


async def test_an_outcome_that_cannot_be_written_at_the_end(setting, caplog, monkeypatch):
    monkeypatch.setattr(worker_module, "LAST_WRITES", 0.2)
    async with setting.working() as worker:
        await setting.submit("a")
        setting.store.away = True
    assert counted(worker, Fault.OUTCOME_UNWRITTEN) == 1
    [line] = told(caplog, Fault.OUTCOME_UNWRITTEN)
    assert (line.job, line.task) == ("a", "hold")


async def test_a_worker_that_ends_brings_its_counts_to_the_store(setting):
    async with setting.working(beat="5s") as worker:
        await setting.submit("a")
        setting.go.set()
        await setting.until(lambda job: job.state == "succeeded", "a")
    store = open_store(setting.url)
    await store.open()
    assert await store.counts() == worker._journal.tally.total()
    assert (await store.counts())["attempts", "hold", "succeeded"] == 1
    await store.close()


async def test_no_start_of_a_worker_makes_room_for_more_names(setting):
    names = MOST_NAMES - 1
    async with setting.working() as first:
        for number in range(names):
            first._journal.tally.attempt("task", f"queue-{number}", "succeeded", 0.0, 1.0)
    async with setting.working() as second:
        for number in range(names, names + 3):
            second._journal.tally.attempt("task", f"queue-{number}", "succeeded", 0.0, 1.0)
    store = open_store(setting.url)
    await store.open()
    queues = {key[1] for key in await store.counts() if key[0] == "wait"}
    await store.close()
    assert queues == {f"queue-{number}" for number in range(MOST_NAMES)} | {OTHER}
