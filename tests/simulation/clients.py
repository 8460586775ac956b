"""Those who submit, cancel and retry; they remember what was acknowledged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from tests.simulation.link import Link
from tests.simulation.loop import Process
from tests.simulation.machine import ProcessClock

from heavylift.client import Client
from heavylift.core.errors import DuplicateJob, JobFinished, JobNotFinished, StoreUnavailable
from heavylift.core.limits import Concurrency, Rate
from heavylift.core.options import FollowUp, Options
from heavylift.core.retry import Exponential, Retry
from heavylift.store import Added

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.simulation.world import World

T = TypeVar("T")

MOST = {"one": 1, "two": 2}
"""How many jobs with each key may run at once."""
ONE, TWO = (Concurrency(most, key) for key, most in MOST.items())
PACED = Rate("30/min", "paced")
"""How many jobs with its key may start in a time."""
RUSH = 8
TASKS = ("steady", "steady", "steady", "steady", "flaky", "flaky", "failing", "poison", "endless")


class Clients:
    """One process that plays all of them, on the real client."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self.process = Process(world.loop, "clients")
        world.processes.append(self.process)
        clock = ProcessClock(world.machine)
        self._link = Link(world.machine, world.weather, world.auditor, world.database.store(clock), self.process)
        self._client = Client(self._link, clock)
        # Who waits beside the one that runs makes two that are not over.
        world.auditor.modes = self._random.choice((("return", "reject"), ("return", "reject", "replace", "queue-one")))
        self.accepted: list[str] = []
        self.cancelled: set[str] = set()
        self._submits: list[asyncio.Task[None]] = []
        self._others: list[asyncio.Task[None]] = []

    def begin(self, storm: float) -> None:
        """Plan everything that is to happen within `storm` seconds."""
        chance = self._random
        for number in range(chance.randint(4, 12)):
            name, task = f"job-{number}", chance.choice(TASKS)
            # Who is told of another job with the key does not know that his own may come late, and cancels none.
            options = self._options(None if task == "endless" else chance.choice((None, None, "the key")))
            if task == "endless" and chance.random() < 0.5:
                options = options.using(timeout=chance.choice((1.0, 20.0)))
            moment = chance.random() ** 2 * storm
            self._submits.append(self.process.start(self._submit(moment, name, task, options)))
            endless = task == "endless" and options.timeout is None
            if endless or chance.random() < 0.3:
                later = moment + chance.random() * 20
                self._others.append(self.process.start(self._cancel(later, name)))
            if chance.random() < 0.15 and not endless:
                self._others.append(self.process.start(self._retry(moment + chance.random() * 30, name)))
        if chance.random() < 0.3:
            self._others.append(self.process.start(self._pause(chance.random() * storm, chance.random() * 20)))

    async def rush(self) -> None:
        """More jobs at once than there are slots."""
        self._submits += [
            self.process.start(self._submit(0.0, f"rush-{number}", "steady", Options(priority=9)))
            for number in range(len(self._submits), len(self._submits) + RUSH)
        ]

    def _options(self, unique: str | None) -> Options:
        chance = self._random
        return Options(
            queue=chance.choice(("default", "default", "narrow")),
            priority=chance.randint(0, 9),
            delay=chance.choice((0.0, 0.0, 0.0, 7.0)),
            grace=chance.choice((0.5, 5.0)),
            retry=Retry(3, Exponential(0.5, 2.0, 4.0)),
            losses=chance.choice((20, 20, 20, 2)),
            unique=unique,
            on_conflict=chance.choice(self._world.auditor.modes) if unique else "return",
            timeout=chance.choice((None, None, None, 6.0)),
            limits=chance.choice(((), (), (ONE,), (TWO,), (ONE, TWO), (PACED,))),
            fair_share=chance.choice((None, None, "a tenant", "another")),
            expires=chance.choice((None, None, None, 15.0)),
            on_exhausted=chance.choice((None, FollowUp("steady", Options()))),
        )

    async def _insisting(self, call: Callable[[], Awaitable[T]]) -> T:
        """As often as it takes: what a caller does who was not answered."""
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(1.0)

    async def _submit(self, moment: float, name: str, task: str, options: Options) -> None:
        await asyncio.sleep(moment)
        found = (await self._insisting(lambda: self._client.add([(task, b"[]", options)], [name])))[0]
        if isinstance(found, Added):
            job = found.job
            self.accepted.append(job.id)
            self._world.machine.note("is told that", name, "is", job.id, job.task, f"in {job.queue}")

    async def _cancel(self, moment: float, name: str) -> None:
        await asyncio.sleep(moment)
        force, grace = self._random.random() < 0.2, self._random.choice((None, 0.0, 2.0))
        while name not in self.accepted:
            if all(submit.done() for submit in self._submits):
                return  # it was another job's key
            await asyncio.sleep(1.0)
        self.cancelled.add(name)
        try:
            receipt = await self._insisting(lambda: self._client.cancel(name, grace=grace, force=force, wait=0))
            self._world.machine.note("is told that the cancel of", name, "came while it is", receipt.state.value)
        except JobFinished:
            self._world.machine.note("comes too late to cancel", name)

    async def _retry(self, moment: float, name: str) -> None:
        await asyncio.sleep(moment)
        if name in self.accepted:
            try:
                await self._insisting(lambda: self._client.retry(name))
                self._world.machine.note("has", name, "begin anew")
            except (JobNotFinished, DuplicateJob):
                return

    async def _pause(self, moment: float, length: float) -> None:
        await asyncio.sleep(moment)
        await self._insisting(lambda: self._client.pause("narrow"))
        await asyncio.sleep(length)
        await self._insisting(lambda: self._link.set_queue("narrow", paused=False, concurrency=1))

    async def all_accepted(self) -> None:
        """Wait until everything planned was done."""
        await asyncio.gather(*self._submits, *self._others)

    async def audit(self) -> None:
        """Give the auditor the jobs as the store has them at the end."""
        store = self._world.database.store(ProcessClock(self._world.machine))
        jobs = await store.get(self.accepted)
        for name, job in zip(self.accepted, jobs, strict=True):
            if job is None:
                self._world.auditor.violation(name, "was accepted and is gone")
        there = [job for job in jobs if job is not None]
        histories = {job.id: await store.events({job.id: 0}) for job in there}
        self._world.auditor.final(there, histories, self.cancelled)
