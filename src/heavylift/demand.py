"""Where a worker asks for jobs: a claim that finds nothing costs a transaction, and there may be thousands a second."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from heavylift.core.options import PLACES, RunIn, Slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heavylift.core.job import Job

BATCH = 200
"""Jobs of one claim in one place, at most."""


class Demand:
    """One worker's. It asks where there is room, and where there may be jobs: where the last claim brought all that it
    asked for, and after a hint everywhere.
    """

    def __init__(self) -> None:
        self._due = asyncio.Event()
        self._hinted = True
        self._more: dict[RunIn, bool] = dict.fromkeys(PLACES, False)

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

    def brought(self, asked: Slots, jobs: Sequence[Job]) -> bool:
        """What a claim has brought; whether it was all that was asked for in some place, so that there may be more."""
        found = Counter(job.options.run_in for job in jobs)
        full = {place: found[place] == most for place, most in zip(PLACES, asked, strict=True) if most}
        self._more |= full
        return any(full.values())
