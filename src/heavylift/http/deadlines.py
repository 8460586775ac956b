"""Time limits of what is nearly always over at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

T = TypeVar("T")

LOOK = 1.0
"""Seconds between two looks, and so the most by which a limit is passed."""


LATE = -1.0
"""In the place of the end of one that was cancelled for it."""


class Deadlines:
    """Limits that share one timer: to set and stop one for each costs a tenth of a short request."""

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._looking: asyncio.AbstractEventLoop | None = None

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        """What `work` returns; raises TimeoutError when that takes longer. One at a time in a task."""
        loop = asyncio.get_running_loop()
        task = cast("asyncio.Task[Any]", asyncio.current_task(loop))
        self._ends[task] = loop.time() + seconds
        if self._looking is not loop:
            self._looking = loop
            loop.call_later(LOOK, self._look, loop)
        try:
            return await work
        except asyncio.CancelledError:
            if self._ends[task] == LATE and task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            del self._ends[task]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, end in self._ends.items():
            if LATE < end <= now and task.get_loop() is loop:
                self._ends[task] = LATE
                task.cancel()
        if self._ends:
            loop.call_later(LOOK, self._look, loop)
        else:
            self._looking = None
