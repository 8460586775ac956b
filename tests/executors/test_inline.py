"""The inline executor: what its contract does not say, since only it has it."""

import asyncio
import threading

import pytest

from heavylift import Context
from heavylift.core.options import Options, Slots
from heavylift.core.outcome import Cancelled, Failed, Interrupted, Succeeded, TimedOut
from heavylift.core.task import define
from heavylift.executor import Ability, StopReason
from heavylift.executors.inline import Inline
from heavylift.settings import Settings
from heavylift.testing.executors import ExecutorSuite
from heavylift.testing.executors.cases import until


class Application:
    def __init__(self, *functions):
        self.registry = {function.__name__: define(function, None, Options(), Context) for function in functions}
        self.host_start_hooks = []
        self.dependency_overrides = {}


async def wait(ctx: Context) -> None:
    ctx.progress(message="begun")
    await asyncio.Event().wait()


async def where_the_loop_is() -> int:
    return id(asyncio.get_running_loop())


def interrupt() -> None:
    raise KeyboardInterrupt


def stubborn(ctx: Context) -> None:
    ctx.progress(message="begun")
    GO.wait(30)


def give() -> int:
    return 1


GO = threading.Event()


class TestInline(ExecutorSuite):
    async def make(self, **settings):
        application = Application(wait, where_the_loop_is, interrupt, stubborn, give)
        return Inline(application, Settings.load({}, **settings))

    @pytest.mark.parametrize(
        ("reason", "kind"),
        [(StopReason.CANCEL, Cancelled), (StopReason.TIMEOUT, TimedOut), (StopReason.DRAIN, Interrupted)],
    )
    async def test_a_coroutine_is_stopped_wherever_it_waits(self, reason, kind):
        async with self.running() as executor:
            attempt = self.give(executor, "wait")
            await attempt.begun()
            executor.stop(attempt.job.id, 1, reason, 25.0)
            assert isinstance(await attempt.outcome(), kind)
            assert isinstance(await self.give(executor, "give").outcome(), Succeeded)

    async def test_a_coroutine_meets_its_timeout(self):
        async with self.running() as executor:
            assert isinstance(await self.give(executor, "wait", job={"timeout": 0.05}).outcome(), TimedOut)

    async def test_coroutines_share_a_loop_so_that_connections_stay_open(self):
        async with self.running() as executor:
            loops = {(await self.give(executor, "where_the_loop_is").outcome()).result for _ in range(3)}
            assert len(loops) == 1

    async def test_what_was_meant_for_more_than_its_job_is_kept_for_its_owner(self):
        async with self.running() as executor:
            assert isinstance(await self.give(executor, "interrupt").outcome(), Failed)
            assert isinstance(executor.escaped, KeyboardInterrupt)
            await self.give(executor, "give").outcome()
            assert executor.escaped is None

    async def test_what_does_not_end_is_left_behind_unheard(self):
        GO.clear()
        try:
            async with self.running() as executor:
                attempt = self.give(executor, "stubborn")
                await attempt.begun()
                await executor.close(0.1)
                assert isinstance(await attempt.outcome(), Interrupted)
                assert isinstance(await self.give(executor, "give").outcome(), Interrupted)
        finally:
            GO.set()

    async def test_a_fault_is_raised_in_place_of_the_code(self):
        faults = [ConnectionError("away")]
        executor = Inline(Application(give), Settings.load({}), fault=lambda job: faults.pop() if faults else None)
        await executor.start()
        outcome = await self.give(executor, "give").outcome()
        assert isinstance(outcome, Failed)
        assert (outcome.error.message, outcome.error.exception) == ("away", "ConnectionError")
        assert isinstance(await self.give(executor, "give").outcome(), Succeeded)
        await executor.close(0.0)

    async def test_start_hooks_run_where_task_code_does_and_a_broken_one_is_told(self):
        application = Application(give)
        threads = []
        application.host_start_hooks = [lambda: threads.append(threading.current_thread())]
        executor = Inline(application, Settings.load({}))
        await executor.start()
        assert threads[0] is not threading.current_thread()
        await executor.close(0.0)
        application.host_start_hooks = [lambda: 1 / 0]
        with pytest.raises(ZeroDivisionError):
            await Inline(application, Settings.load({})).start()

    async def test_it_says_what_it_lacks(self):
        async with self.running() as executor:
            assert executor.lacks == {Ability.KILL, Ability.PARALLEL}
            attempts = [self.give(executor, "give") for _ in range(3)]
            assert executor.free == Slots()
            for attempt in attempts:
                assert isinstance(await attempt.outcome(), Succeeded)
            await until(lambda: executor.free == Slots(1, 1, 1))
