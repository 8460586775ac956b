"""Short jobs that keep coming, cancels at the borders of their lives, and the auditor of what came of both."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.service import Service, until

from heavylift import JobFinished, State
from heavylift.core import event
from heavylift.core.event import Event
from heavylift.core.job import Job, Stopped
from heavylift.core.result import Receipt

AHEAD = 60
"""Jobs that wait or run at a time."""
BRIEF = 0.003
"""Seconds of CPU time that a job takes at most, if it is not one of the long ones."""
CANCELLERS = 3
PATIENCE = 60.0
"""Seconds for a job to end: only what hangs takes longer."""
CRASHES = 3
"""The budget of `brief`."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens beside the cancels. `harm`, `long`: the share of jobs that end their host, and of those that take
    longer than a drain waits. A host is killed every so many cancels, the worker drained every so many; 0: never.
    """

    harm: float = 0.0
    long: float = 0.0
    kill_every: int = 0
    drain_every: int = 0


class Mark(NamedTuple):
    """What a job wrote; `at` in nanoseconds of the monotonic clock."""

    kind: str
    job: str
    attempt: int
    pid: int
    at: int


@dataclass(slots=True)
class Said:
    """What the caller of a cancel was told, and when (monotonic, ns); None: that the job was over."""

    receipt: Receipt | None
    at: int


class Borders:
    """The flow of jobs, and what was done to it."""

    def __init__(self, service: Service, faults: Faults) -> None:
        self._service, self._faults = service, faults
        self._task = service.task("brief").using(grace=5)
        self._ids: list[str] = []
        self._waiting: dict[str, None] = {}
        """Those that have not begun and were not cancelled, in their order."""
        self._begun: list[Mark] = []
        self._early = 0
        """Cancels before the start since the last start: with more of them nothing would ever start."""
        self._harmful: set[str] = set()
        self._long: set[str] = set()
        self._dying: list[str] = []
        self._chosen: set[str] = set()
        self._said: dict[str, Said] = {}
        self._lead = 2.0
        """How far ahead of the last begun job a cancel meets a border, as learned from what came of the last ones."""
        self._marks: list[Mark] = []
        self._read_to = 0
        self._killed: list[int] = []
        self._drains = 0
        self._enough = False

    # --- cancels -----------------------------------------------------------------------------------------------

    async def cancel(self, count: int) -> None:
        """Keep jobs coming and cancel so many, each when it is about to start, end or do harm; beside the faults."""
        async with asyncio.TaskGroup() as group:
            feeder = group.create_task(self._feed())
            faults = [group.create_task(fault()) for fault in (self._kill_hosts, self._drain_workers)]
            await asyncio.wait([group.create_task(self._cancel_some(count)) for _ in range(CANCELLERS)])
            self._enough = True
            await asyncio.wait(faults)
            feeder.cancel()

    async def _feed(self) -> None:
        while True:
            self._read()
            if len(self._waiting) < AHEAD // 2:
                calls = [self._call() for _ in range(AHEAD)]
                for handle, call in zip(await self._task.submit_many(kwargs=calls), calls, strict=True):
                    self._ids.append(handle.id)
                    self._waiting[handle.id] = None
                    if "harm" in call:
                        self._harmful.add(handle.id)
                    elif call["seconds"] > BRIEF:
                        self._long.add(handle.id)
            await asyncio.sleep(0.001)

    def _call(self) -> dict[str, Any]:
        call: dict[str, Any] = {"seconds": random.uniform(0.0005, BRIEF)}
        if random.random() < self._faults.long:
            call["seconds"] = random.uniform(0.05, 0.15)
        if random.random() < self._faults.harm:
            call |= {"harm": random.choice(["exit", "kill"]), "times": random.choice([1, 1, 2, 99])}
        return call

    async def _cancel_some(self, count: int) -> None:
        while len(self._chosen) < count:
            self._read()
            target = self._target()
            if target is None:
                await asyncio.sleep(0.0005)
                continue
            await self._cancel(target)
            # Neighbours that nobody cancels pass.
            await self._next_begins(random.choice([0, 2, 4, 10]))

    def _target(self) -> str | None:
        """A job that will just start, run or end when the cancel arrives; now and then one that means harm."""
        if random.random() < 2 * self._faults.harm:
            near = self._dying[-1:] + [mark.job for mark in self._begun[-3:]] + list(islice(self._waiting, 3))
            harmful = [job for job in near if job in self._harmful and job not in self._chosen]
            if harmful:
                return harmful[0]
        place = round(self._lead + random.uniform(-1, 1)) - 1
        if place >= 0:
            if self._early >= CANCELLERS:
                return None
            found = next(islice(self._waiting, place, None), None)
        else:
            found = self._begun[place].job if len(self._begun) >= -place else None
        return None if found in self._chosen else found

    async def _cancel(self, job: str) -> None:
        self._chosen.add(job)
        if job in self._waiting:
            del self._waiting[job]
            self._early += 1
        try:
            receipt = await self._service.client.cancel(job, wait=PATIENCE)
            if receipt.stopped is Stopped.BEFORE_START:
                self._lead = max(-1.0, self._lead - 0.3)
        except JobFinished:
            receipt = None
            self._lead += 0.3
        self._said[job] = Said(receipt, time.monotonic_ns())

    def _read(self) -> None:
        """What the jobs wrote since the last look."""
        if not self._service.audit.exists():
            return
        with self._service.audit.open("rb") as file:
            file.seek(self._read_to)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self._read_to += len(line)
            kind, job, attempt, pid, at = line.decode().split()
            mark = Mark(kind, job, int(attempt), int(pid), int(at))
            self._marks.append(mark)
            if kind == "start":
                self._waiting.pop(job, None)
                self._begun.append(mark)
                self._early = 0
            elif kind == "harm":
                self._dying.append(job)

    # --- what happens besides -----------------------------------------------------------------------------------

    async def _kill_hosts(self) -> None:
        """Kill the host of the job that began last, again and again; half of these jobs are cancelled just then."""
        while await self._after(self._faults.kill_every):
            await self._next_begins()
            await asyncio.sleep(random.uniform(0, 0.004))
            last = self._begun[-1]
            both = random.random() < 0.5 and last.job not in self._chosen
            cancel = asyncio.create_task(self._cancel(last.job)) if both else None
            await asyncio.sleep(random.uniform(0, 0.002))
            if self._is_host(last.pid) and last.pid not in self._killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(last.pid, signal.SIGKILL)
                    self._killed.append(last.pid)
            if cancel is not None:
                await cancel

    def _is_host(self, pid: int) -> bool:
        """Whether it is a host of this worker, alive."""
        with contextlib.suppress(OSError):
            state, nanny = _stat(pid)
            return state not in "ZX" and _stat(int(nanny))[1] == str(self._service.worker_pid)
        return False

    async def _drain_workers(self) -> None:
        """Tell the worker to drain, again and again, while cancels are on their way to what it holds."""
        while await self._after(self._faults.drain_every):
            # A drain soon interrupts a long one.
            longest = [await self._long_begins()] if random.random() < 0.7 else []
            worker = self._service.worker_pid
            near = [mark.job for mark in self._begun[-2:]] + list(islice(self._waiting, 12))
            chosen = {job for job in near if random.random() < 0.5}.union(longest) - self._chosen
            async with asyncio.TaskGroup() as group:
                for job in chosen:
                    self._chosen.add(job)
                    self._waiting.pop(job, None)
                    group.create_task(self._cancel_within(job, 0.04))
                await asyncio.sleep(random.uniform(0, 0.01))
                os.kill(worker, signal.SIGTERM)
                self._drains += 1
            await until(lambda worker=worker: self._service.worker_pid != worker, PATIENCE)
            await self._next_begins()

    async def _next_begins(self, count: int = 1) -> None:
        """Wait until so many more jobs have begun."""
        due = len(self._begun) + count
        await until(lambda: len(self._begun) >= due, PATIENCE)

    async def _long_begins(self) -> str:
        """The next of the long jobs that begins."""
        seen = len(self._begun)
        async with asyncio.timeout(PATIENCE):
            while True:
                for mark in self._begun[seen:]:
                    if mark.job in self._long:
                        return mark.job
                seen = len(self._begun)
                await asyncio.sleep(0.001)

    async def _cancel_within(self, job: str, seconds: float) -> None:
        await asyncio.sleep(random.uniform(0, seconds))
        await self._cancel(job)

    async def _after(self, cancels: int) -> bool:
        """Wait until so many more cancels were sent; False when it is enough."""
        due = len(self._chosen) + cancels
        while cancels and not self._enough and len(self._chosen) < due:
            await asyncio.sleep(0.002)
        return cancels > 0 and not self._enough

    # --- the audit ---------------------------------------------------------------------------------------------

    async def audit(self) -> Counter[str]:
        """Wait for all jobs to end, hold against each other what they wrote, what callers were told and what is on
        record; how often what happened.
        """
        client = self._service.client
        jobs = [await client.finished(name, PATIENCE) for name in self._ids]
        lives = [Life(job, [one async for one in client.events(job.id)], self._said.get(job.id)) for job in jobs]
        self._read()
        by_id = {life.job.id: life for life in lives}
        for mark in self._marks:
            by_id[mark.job].marks[mark.attempt][mark.kind] = mark
        counts = Counter({"drains": self._drains, "hosts killed": len(self._killed)})
        for life in lives:
            life.audit()
            life.count(counts)
        counts["host killed"] = audit_kills(lives, self._killed)
        return counts


@dataclass(slots=True)
class Life:
    """One job that is over: its record, its events, its own marks by attempt and kind, what its canceller was told."""

    job: Job
    events: Sequence[Event]
    said: Said | None
    marks: dict[int, dict[str, Mark]] = field(default_factory=lambda: defaultdict(dict))
    outcomes: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def audit(self) -> None:
        """Raise AssertionError for what cannot be."""
        self._audit_events()
        self._audit_costs()
        if self.said is None or self.said.receipt is None:
            assert self.job.cancel is None, f"{self.job.id} has the cancel of another"
            assert self.job.state is not State.CANCELLED, f"{self.job.id} was stopped for another's sake"
        else:
            self._audit_receipt(self.said.receipt, self.said.at)
        self._audit_end()

    def _audit_events(self) -> None:
        assert [item.seq for item in self.events] == list(range(1, self.job.seq + 1))
        asked = attempt = finals = 0
        for item in self.events:
            asked = asked or item.kind == event.CANCEL
            if item.kind != event.STATE:
                continue
            state = State(item.data["state"])
            assert state.final or not asked, f"{self.job.id} went on after its cancel: {self.events}"
            finals += state.final
            if state is State.RUNNING:
                assert item.data["attempt"] == attempt + 1, f"{self.job.id} skipped an attempt: {self.events}"
                attempt += 1
            elif "outcome" in item.data:
                assert attempt not in self.outcomes, f"{self.job.id} ended an attempt twice: {self.events}"
                self.outcomes[attempt] = item.data
        assert finals == 1, f"{self.job.id} ended {finals} times: {self.events}"
        assert self.events[-1].data["state"] == self.job.state
        assert set(self.outcomes) == set(range(1, self.job.attempt + 1))

    def _audit_costs(self) -> None:
        """Only an attempt that lost its host costs something; what was handed back keeps its place."""
        crashed = [attempt for attempt, data in self.outcomes.items() if data["outcome"] == "crashed"]
        charged = (self.job.failures, self.job.crashes, self.job.losses)
        assert charged == (0, len(crashed), 0), f"{self.job.id} was charged {charged}: {self.events}"
        for attempt, data in self.outcomes.items():
            marks = self.marks.get(attempt, {})
            if data["outcome"] == "interrupted":
                assert data["reason"] in ("drain", "not started"), f"{self.job.id}: {data}"
                assert data["reason"] == "drain" or not marks, f"{self.job.id} had started: {data}"
                assert "run_at" not in data, f"{self.job.id} lost its place: {data}"
            if "stop" in marks:
                assert data["outcome"] in ("cancelled", "interrupted", "crashed"), f"{self.job.id} was stopped: {data}"
            elif "harm" in marks:
                # The end of a grace may come between the mark and the death.
                assert data["outcome"] in ("crashed", "cancelled", "interrupted"), f"{self.job.id} died: {data}"

    def _audit_receipt(self, receipt: Receipt, at: int) -> None:
        assert receipt.final, f"{self.job.id} had not ended for its canceller: {self.events}"
        assert receipt == Receipt.of(self.job), "the receipt is not what is on record"
        late = [mark for kinds in self.marks.values() for mark in kinds.values() if mark.at > at]
        assert not late, f"{self.job.id} went on after its receipt: {late}"

    def _audit_end(self) -> None:
        """The state is what happened in the last attempt."""
        job, last = self.job, self.outcomes.get(self.job.attempt, {})
        outcome, marks = last.get("outcome"), self.marks.get(self.job.attempt, {})
        match job.state:
            case State.SUCCEEDED:
                assert outcome == "succeeded"
                assert "end" in marks, f"{job.id} never came to its end"
            case State.FAILED:
                assert (outcome, job.crashes) == ("crashed", CRASHES), f"{job.id} was given up: {last}"
            case _:
                assert job.state is State.CANCELLED
                assert job.cancel is not None
                if job.stopped is Stopped.BEFORE_START:
                    assert not self.marks, f"{job.id} ran: {self.marks}"
                elif job.stopped in (Stopped.SOFT, Stopped.KILLED):
                    assert outcome == "cancelled", f"{job.id} was stopped: {last}"
                assert outcome != "succeeded"

    def count(self, counts: Counter[str]) -> None:
        """What the cancel met, and what happened to the job besides."""
        for attempt, data in self.outcomes.items():
            if data["outcome"] == "interrupted":
                counts[f"handed back: {data['reason']}"] += 1
                counts["handed back while it ran"] += attempt in self.marks
            counts["crashed by itself"] += data["outcome"] == "crashed" and "harm" in self.marks.get(attempt, {})
        if self.said is None:
            counts[f"neighbours {self.job.state}"] += 1
        elif self.said.receipt is None:
            counts["over before the cancel"] += 1
        else:
            counts[self._met()] += 1

    def _met(self) -> str:
        """What a cancel met."""
        if not any(item.kind == event.CANCEL for item in self.events):
            return "met it in its queue, anew" if self.job.attempt else "met it in its queue"
        outcome = self.outcomes[self.job.attempt]["outcome"]
        if outcome == "cancelled":
            return "met its run" if self.job.attempt in self.marks else "met its start"
        return {"succeeded": "met its end", "crashed": "met its crash", "interrupted": "met its drain"}[outcome]


def audit_kills(lives: Sequence[Life], killed: Sequence[int]) -> int:
    """Each host that was killed from outside charges the one attempt that ran there, and nobody else is charged for
    what it did not do; how many were charged.
    """
    charged: Counter[int] = Counter()
    unseen = 0
    for life in lives:
        for attempt, data in life.outcomes.items():
            marks = life.marks.get(attempt, {})
            crashed = data["outcome"] == "crashed"
            if crashed and not marks:
                unseen += 1  # it had begun, and not come to its first mark
            elif crashed and "harm" not in marks:
                pid = next(iter(marks.values())).pid
                assert pid in killed, f"{life.job.id} crashed, and nobody did it: {data}, {marks}"
                charged[pid] += 1
            elif set(marks) == {"start"} and marks["start"].pid in killed:
                # Or the worker killed it itself, for a cancel or a drain.
                assert crashed or data["outcome"] in ("cancelled", "interrupted"), f"{life.job.id} was killed: {data}"
    twice = [pid for pid, times in charged.items() if times > 1]
    assert not twice, f"the end of one host was charged to several jobs: {twice}"
    assert unseen + len(charged) <= len(killed), f"{unseen} jobs crashed that nobody killed"
    return unseen + len(charged)


def _stat(pid: int) -> tuple[str, str]:
    """The state and the parent of a process."""
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[:2]
    return state, parent
