"""The cases of `count` and `counts`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio

from heavylift.core.tally import Key
from heavylift.store import Store
from heavylift.testing.stores.cases import StoreCases


class Counting(StoreCases):
    """What workers add up."""

    async def test_counts_add_up_whoever_counted(self, store: Store, other: Store) -> None:
        assert await store.counts() == {}
        await store.count({("faults", "loss"): 2, ("wait_sum", "naïve, or «not»"): 0.25})
        await other.count({("faults", "loss"): 1, ("faults",): 7})
        found = {("faults", "loss"): 3, ("wait_sum", "naïve, or «not»"): 0.25, ("faults",): 7}
        assert await store.counts() == await other.counts() == found

    async def test_nothing_is_counted_twice_or_lost_beside_others(self, store: Store, other: Store) -> None:
        many: dict[Key, float] = {("wait", str(number)): 1.0 for number in range(500)}
        key = ("attempts", "task", "succeeded")
        await asyncio.gather(*(one.count({key: 1.0} | many) for one in (store, other) for _ in range(10)))
        await store.count({})
        assert await store.counts() == {key: 20.0} | dict.fromkeys(many, 20.0)
