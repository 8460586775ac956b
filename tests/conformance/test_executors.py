"""Every executor passes the same suite."""

from heavylift.executor import Application
from heavylift.executors.inline import Inline
from heavylift.executors.link import Nanny
from heavylift.executors.pool import Pool
from heavylift.settings import Settings
from heavylift.testing import executor_tasks
from heavylift.testing.executors import ExecutorContract

TASKS = Application("heavylift.testing.executor_tasks", "application")


class TestPool(ExecutorContract):
    async def make(self, **settings):
        return Pool(await Nanny.start(TASKS), Settings.load({}, **({"concurrency": 3} | settings)))


class TestInline(ExecutorContract):
    async def make(self, **settings):
        return Inline(executor_tasks.application, Settings.load({}, **settings))
