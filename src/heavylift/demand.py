"""Where and when a worker asks for jobs, and in which order of its queues: a claim that finds nothing costs a
transaction, and there may be thousands a second.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

from heavylift.core.errors import StoreUnavailable
from heavylift.core.options import PLACES, RunIn, Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from heavylift.core.job import Job
    from heavylift.store import Clock, Store

BATCH = 200
"""Jobs of one claim in one place, at most."""
LULL = 0.01
"""Seconds between a claim that left room and the question when something becomes due: at most a hundred a second, and
none that keeps a job waiting which was just claimed.
"""
MARGIN, JITTER = 0.001, 0.003
"""Seconds after the moment at which something becomes due: for the difference of two clocks, and so that of many
workers one is the first.
"""

ROUNDED = 1e-6
"""What the times of queues may be wrong by."""


class Demand:
    """One worker's. It asks where there is room, and where there may be jobs: where the last claim brought all that it
    asked for, and everywhere after a hint, or when something has become due. `weights`: of the queues that it serves;
    empty for all.
    """

    def __init__(self, weights: Mapping[str, int] | None = None) -> None:
        self._due = asyncio.Event()
        self._hinted = True
        self._more: dict[RunIn, bool] = dict.fromkeys(PLACES, False)
        self._shares = Shares(weights) if weights else None
        self._order: Mapping[str, int] = {}
        self._left_room = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        """Until there is a reason to claim."""
        await self._due.wait()

    def hint(self) -> None:
        """There may be jobs anywhere."""
        self._hinted = True
        self._due.set()

    def freed(self, place: RunIn) -> None:
        """A slot is free there again."""
        if self._more[place]:
            self._due.set()

    def slots(self, free: Slots) -> Slots:
        """What to claim now; what comes from here on is a new reason."""
        self._due.clear()
        if self._hinted:
            # A hint that meets no room in a place stands there until there is some.
            self._hinted = False
            self._more = dict.fromkeys(PLACES, True)
        return Slots(*(min(room, BATCH) * self._more[place] for place, room in zip(PLACES, free, strict=True)))

    def queues(self, asked: Slots) -> Mapping[str, int]:
        """The queues of this claim with their weights, in the order of their turns; empty for all."""
        if self._shares is not None:
            self._order = self._shares.order(asked)
        return self._order

    def brought(self, asked: Slots, jobs: Sequence[Job]) -> bool:
        """What a claim has brought; whether it was all that was asked for in some place, so that there may be more."""
        found = Counter(job.options.run_in for job in jobs)
        full = {place: found[place] == most for place, most in zip(PLACES, asked, strict=True) if most}
        self._more |= full
        if not all(full.values()):
            self._left_room.set()
        if self._shares is not None:
            self._shares.took(list(self._order), asked, jobs)
        return any(full.values())

    def expect(self, seconds: float) -> None:
        """Something becomes due in so many seconds, which is as good as a hint then. The soonest such moment is kept:
        the claim that follows asks for the next one.
        """
        loop = asyncio.get_running_loop()
        at = loop.time() + max(0.0, seconds) + MARGIN
        if self._alarm is not None:
            if self._alarm.when() <= at:
                return
            self._alarm.cancel()
        self._alarm = loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.hint()

    async def keep_time(self, store: Store, clock: Clock, away: Callable[[StoreUnavailable], None]) -> None:
        """Have what becomes due by time alone claimed in time; without end. Asks the store when a claim left room, for
        only then all that was due is taken; `away` is told when it does not answer.
        """
        while True:
            await self._left_room.wait()
            await asyncio.sleep(LULL)
            self._left_room.clear()
            try:
                due = await store.next_due()
            except StoreUnavailable as error:
                away(error)  # the claim that follows a poll asks again
                continue
            if due is not None:
                jitter = random.random() * JITTER  # noqa: S311  spreads claims, guards nothing
                self.expect(due - clock.wall() + jitter)


class Shares:
    """The turns of queues in proportion to their weights, also when jobs are claimed one at a time.

    In each place each queue has a time of its own, which goes on by 1 / weight with every job that begins there; the
    time of all is their mean, by weight. Of the queues that are not ahead of it, the one is next whose time would be
    the earliest after its next job (worst-case fair weighted fair queueing): so none is ever further from its share
    than a job or two. A queue that had nothing when its turn came has the time of all then: it saves no turns up.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = dict(weights)
        self._times: dict[RunIn, dict[str, float]] = {place: dict.fromkeys(weights, 0.0) for place in PLACES}
        self._empty: dict[RunIn, set[str]] = {place: set() for place in PLACES}
        """Those that had nothing when they had their last turn."""

    def order(self, asked: Slots) -> dict[str, int]:
        """The queues with their weights, in the order of their turns in the places where slots are asked for."""
        ahead = dict.fromkeys(self._weights, 0.0)
        for place, most in zip(PLACES, asked, strict=True):
            if most:
                now = self._now(place)
                for name, time in self._times[place].items():
                    ahead[name] += time - now

        def turn(name: str) -> tuple[bool, float]:
            return ahead[name] > ROUNDED, ahead[name] + 1 / self._weights[name]

        return {name: self._weights[name] for name in sorted(self._weights, key=turn)}

    def took(self, order: Sequence[str], asked: Slots, jobs: Sequence[Job]) -> None:
        """What a claim in that order has brought."""
        begun = Counter((job.options.run_in, job.queue) for job in jobs)
        for place, most in zip(PLACES, asked, strict=True):
            if not most:
                continue
            times, counts = self._times[place], [begun[place, name] for name in order]
            # All had their turn when slots were left, else those that stand before the last one that got something.
            last = max((turn for turn, count in enumerate(counts, 1) if count), default=0)
            reached = last if sum(counts) == most else len(order)
            for name, count in zip(order, counts, strict=True):
                times[name] += count / self._weights[name]
            self._empty[place].difference_update(name for name, count in zip(order, counts, strict=True) if count)
            nothing = [name for name, count in zip(order[:reached], counts, strict=False) if not count]
            self._empty[place].update(nothing)
            now = self._now(place)
            for name in nothing:
                times[name] = max(times[name], now)

    def _now(self, place: RunIn) -> float:
        """The time of all that have something, as far as it is known."""
        times, empty = self._times[place], self._empty[place]
        some = {name: weight for name, weight in self._weights.items() if name not in empty} or self._weights
        return sum(times[name] * weight for name, weight in some.items()) / sum(some.values())
