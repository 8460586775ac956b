"""Every executor passes the same suite."""

from heavylift.executor import Application
from heavylift.executors.inline import Inline
from heavylift.executors.link import Nanny
from heavylift.executors.pools import Pools
from heavylift.settings import Settings
from heavylift.testing import executor_coroutines, executor_tasks
from heavylift.testing.executors import ExecutorContract, LoopExecutorContract, ThreadExecutorContract
from heavylift.testing.executors.ends import EndsCases
from heavylift.testing.executors.turns import TurnCases

COROUTINES = "heavylift.testing.executor_coroutines"


async def pools(module, attribute, settings):
    nanny = await Nanny.start(Application(module, attribute))
    return Pools(nanny, Settings.load({}, **({"concurrency": 3} | settings)))


class TestPool(ExecutorContract):
    async def make(self, **settings):
        return await pools("heavylift.testing.executor_tasks", "application", settings)


class TestThreads(ThreadExecutorContract):
    async def make(self, **settings):
        return await pools(COROUTINES, "threads", settings)


class TestLoop(LoopExecutorContract):
    async def make(self, **settings):
        return await pools(COROUTINES, "application", settings)


class TestInline(ExecutorContract):
    async def make(self, **settings):
        return Inline(executor_tasks.application, Settings.load({}, **settings))


class TestInlineCoroutines(EndsCases, TurnCases):
    place = "loop"

    async def make(self, **settings):
        return Inline(executor_coroutines.application, Settings.load({}, **settings))
