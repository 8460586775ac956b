"""One process's way to the store, which is slow, breaks off, and loses answers as the seed says. It keeps the contract
of a store whose answers can be lost: an error says that the call may or may not have been carried out.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from heavylift.core.errors import HeavyliftError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

    from tests.simulation.auditor import Auditor
    from tests.simulation.database import InstantStore
    from tests.simulation.loop import Process
    from tests.simulation.machine import Machine

    from heavylift.core.job import Change, Job, NewEvent
    from heavylift.core.limits import Rate
    from heavylift.core.options import Slots
    from heavylift.core.retention import Retention
    from heavylift.core.tally import Key
    from heavylift.store import Added, Mailbox, WorkerRecord

SWEEP = "sweep"
LATEST = 4.0
"""Seconds after which a call that was given up may still be carried out."""


@dataclass(slots=True)
class Weather:
    """How the ways to the store are: the chance that a call fails before it is carried out, that its answer is lost,
    that it is carried out after it was given up, and that it takes seconds; the usual seconds of one way.
    """

    fails: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    latency: float = 0.001
    outage: bool = False
    cut: set[str] = field(default_factory=set)
    """Processes that alone cannot reach the store."""


class Link:
    """The store as one process sees it."""

    def __init__(
        self, machine: Machine, weather: Weather, auditor: Auditor, store: InstantStore, process: Process
    ) -> None:
        self._machine = machine
        self._weather = weather
        self._auditor = auditor
        self._store = store
        self._process = process
        self._office = store._opened._sender
        self.trouble = machine.loop.time()
        """When a call failed last, or the process began, or went on after it had been stopped."""
        self.contact = self.trouble
        """Since when its contact with the store has been unbroken: stops that are too short to be noticed count not."""
        self.gone = False
        """Its process has ended."""
        self.stops = 0
        """How often its process was stopped."""
        self.on_the_way: list[str] = []
        """The calls that have begun and not ended."""

    async def _call(self, name: str, call: Callable[[], Awaitable[Any]], *, repeatable: bool = True) -> Any:
        self.on_the_way.append(name)
        try:
            return await self._carry(name, call, repeatable=repeatable)
        finally:
            self.on_the_way.remove(name)

    async def _carry(self, name: str, call: Callable[[], Awaitable[Any]], *, repeatable: bool) -> Any:
        weather, random = self._weather, self._machine.random
        await asyncio.sleep(self._latency())
        if weather.outage or self._process.name in weather.cut:
            await asyncio.sleep(random.random() * 2)
            raise self._failed(name, "cannot be reached")
        chance = random.random()
        if chance < weather.fails:
            raise self._failed(name, "fails")
        chance -= weather.fails
        if repeatable and chance < weather.late:
            self._machine.loop.root.later(random.random() * LATEST, self._carried_out_late, name, call)
            await asyncio.sleep(self._latency())
            raise self._failed(name, "is given up")
        try:
            answer = await call()
        except HeavyliftError as error:
            answer = error
        await asyncio.sleep(self._latency())
        if weather.outage or chance - weather.late < weather.lost:
            raise self._failed(name, "has its answer lost")
        if isinstance(answer, HeavyliftError):
            raise answer
        return answer

    def _latency(self) -> float:
        random, weather = self._machine.random, self._weather
        if random.random() < weather.slow:
            return random.random() * 3
        return random.random() * 2 * weather.latency

    def _failed(self, name: str, how: str) -> StoreUnavailable:
        self.trouble = self.contact = self._machine.loop.time()
        self._machine.note(name, how)
        return StoreUnavailable(f"{name} {how}")

    def _carried_out_late(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        async def carry_out() -> None:
            with suppress(HeavyliftError):
                await call()
            self._machine.note(name, "is carried out late, for", self._process.name)

        self._machine.loop.root.start(carry_out())

    # --- the contract -------------------------------------------------------------------------------------------

    url = "memory://"
    refused = 0

    async def open(self) -> None:
        """It is open."""

    async def close(self) -> None:
        """It stays so."""

    async def add(self, jobs: Sequence[tuple[Job, NewEvent]]) -> list[Added | Any]:
        async def add() -> list[Added | Any]:
            answers = await self._store.add(jobs)
            self._auditor.added(answers)
            return answers

        return await self._call("add", add)

    async def claim(self, worker: str, epoch: int, slots: Slots, queues: Sequence[str] = ()) -> list[Job]:
        async def claim() -> list[Job]:
            jobs = await self._store.claim(worker, epoch, slots, queues)
            self._auditor.claimed(worker, epoch, jobs)
            return jobs

        return await self._call("claim", claim)

    async def save(self, changes: Sequence[Change]) -> list[int | None]:
        async def save() -> list[int | None]:
            answers = await self._store.save(changes)
            for change, seq in zip(changes, answers, strict=True):
                self._auditor.saved(change, seq)
            return answers

        # A store's locks keep a write that was given up from coming after the one that repeats it.
        return await self._call("save", save, repeatable=False)

    async def beat(self, worker: WorkerRecord, lease: float) -> Mailbox:
        self._auditor.beats(worker)

        async def beat() -> Mailbox:
            mailbox = await self._store.beat(worker, lease)
            if not mailbox.alive:
                self._machine.note(worker.id, "hears that it was declared dead, epoch", worker.epoch)
            return mailbox

        mailbox = await self._call("beat", beat)
        self._auditor.heard(worker.id)
        return mailbox

    async def retire(self, worker: str, epoch: int) -> None:
        await self._call("retire", lambda: self._store.retire(worker, epoch))

    async def sweep(self, worker: str, *, others: bool) -> list[Job]:
        if others:
            self._auditor.sweeps(self, worker)
        stops = self.stops

        async def sweep() -> list[Job]:
            if others and self.stops != stops:
                # It was on its way while its process stood still: its connection has broken off.
                raise self._failed(SWEEP, "is too old")
            before = self._auditor.dead()
            jobs = await self._store.sweep(worker, others=others)
            self._auditor.swept(worker, before, jobs)
            return jobs

        # The late sweep of a worker that is gone would be another process's fault.
        return await self._call(SWEEP, sweep, repeatable=False)

    async def expired(self) -> list[Job]:
        return await self._call("expired", self._store.expired)

    async def count(self, added: Mapping[Key, float]) -> None:
        await self._call("count", lambda: self._store.count(added), repeatable=False)

    async def counts(self) -> Mapping[Key, float]:
        return await self._call("counts", self._store.counts)

    async def held(self, worker: str, epoch: int) -> Mapping[str, int]:
        return await self._call("held", lambda: self._store.held(worker, epoch))

    async def next_due(self) -> float | None:
        return await self._call("next_due", self._store.next_due)

    async def reserve(self, rate: Rate) -> float:
        return await self._call("reserve", lambda: self._store.reserve(rate))

    async def get(self, ids: Sequence[str]) -> list[Job | None]:
        return await self._call("get", lambda: self._store.get(ids), repeatable=False)

    async def set_queue(self, name: str, **changes: Any) -> Any:
        return await self._call("set_queue", lambda: self._store.set_queue(name, **changes), repeatable=False)

    async def prune(self, retention: Retention) -> int:
        return await self._call("prune", lambda: self._store.prune(retention), repeatable=False)

    def watch(self, *, worker: str | None = None, ends: bool = False) -> SimulatedHints:
        hinted = asyncio.Event()
        if worker is not None:
            self._office.listen(worker, self._process, hinted)
        return SimulatedHints(hinted)


class SimulatedHints:
    """The hints of one waiter."""

    def __init__(self, hinted: asyncio.Event) -> None:
        self._hinted = hinted

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    async def wait(self, timeout: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._hinted.wait()
        hinted = self._hinted.is_set()
        self._hinted.clear()
        return hinted
