"""Places in rates that running code waits for: the worker takes them in the store, apart from all else that it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from heavylift.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from heavylift.executor import Reserve
    from heavylift.store import Store

BATCH = 16
"""Places that are taken before the worker looks after its jobs again."""
AWAY = 0.5
"""Seconds between two tries while the store is away."""


class Wish(NamedTuple):
    """What running code asked for, and whether it still runs."""

    wanted: Reserve
    is_running: Callable[[], bool]


class Reservations:
    """One worker's: what is asked for meanwhile is taken together, in the order in which it was asked for."""

    def __init__(self) -> None:
        self._wishes: list[Wish] = []
        self._any = asyncio.Event()

    def ask(self, wanted: Reserve, is_running: Callable[[], bool]) -> None:
        """Take a place soon, and answer when it is taken; not for code that does not run any more by then."""
        self._wishes.append(Wish(wanted, is_running))
        self._any.set()

    async def make(self, store: Store, away: Callable[[StoreUnavailable], None]) -> None:
        """Take the places that are asked for, without end. While the store is away, of which `away` is told, they are
        asked for again.
        """
        while True:
            await self._any.wait()
            self._any.clear()
            wishes, self._wishes = [wish for wish in self._wishes if wish.is_running()], []
            while wishes:
                taken = await asyncio.gather(*(_take(store, wish, away) for wish in wishes[:BATCH]))
                failed = [wish for wish, done in zip(wishes, taken, strict=False) if not done]
                # Also in calm, for the places of an inline store are taken without a turn of the loop.
                await asyncio.sleep(AWAY if failed else 0)
                wishes = [wish for wish in (*failed, *wishes[BATCH:]) if wish.is_running()]


async def _take(store: Store, wish: Wish, away: Callable[[StoreUnavailable], None]) -> bool:
    """Whether the place was taken, and the answer given."""
    try:
        wish.wanted.answer(await store.reserve(wish.wanted.rate))
    except StoreUnavailable as error:
        away(error)
        return False
    return True
