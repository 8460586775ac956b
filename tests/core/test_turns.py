"""Turns in a rate: `Context.limit` as code sees it, and the worker's side that takes them in the store."""

from __future__ import annotations

import asyncio
import time

import pytest

from heavylift import ConfigError, Context, Heavylift
from heavylift.core.errors import StoreUnavailable
from heavylift.core.limits import Rate
from heavylift.executor import Reserve
from heavylift.reservations import BATCH, Reservations
from heavylift.testing import run_task

lift = Heavylift("memory://")


@lift.task
def take(ctx: Context, count: int) -> int:
    for _ in range(count):
        with ctx.limit("crm", "1/h"):
            pass
    return count


@lift.task
async def take_awaiting(ctx: Context, count: int) -> int:
    for _ in range(count):
        async with ctx.limit("crm", "1/h"):
            pass
        await ctx.limit("crm", "1/h")
    return count


def test_a_fake_context_waits_for_nothing_and_tells() -> None:
    ctx = Context.fake()
    with ctx.limit("crm", "1/h"):
        pass
    ctx.limit("other", "2/h")
    assert ctx.reports == [("limit", ("crm", "1/h")), ("limit", ("other", "2/h"))]


async def test_a_fake_context_can_be_awaited() -> None:
    ctx = Context.fake()
    async with ctx.limit("crm", "1/h"):
        pass
    await ctx.limit("crm", "1/h")
    assert len(ctx.reports) == 2


@pytest.mark.parametrize("task", [take, take_awaiting])
def test_run_task_does_not_wait(task) -> None:
    began = time.monotonic()
    assert run_task(task, 3).result == 3
    assert time.monotonic() - began < 3600


@pytest.mark.parametrize(
    "rate", ["0/s", "10", "", "10/parsec", "-1/s", "\uff11/s", "1/0.5ms", "1/0." + "0" * 316 + "1s", None, 5]
)
def test_what_is_no_rate_is_refused(rate) -> None:
    ctx = Context.fake()
    with pytest.raises(ConfigError, match="is no rate; give"):
        ctx.limit("crm", rate)
    assert ctx.reports == []


@pytest.mark.parametrize("key", ["", "x" * 10_000, None, 5, "\0", "\ud800", "account:{account_id}", "{order.id}"])
def test_what_is_no_key_is_refused(key) -> None:
    with pytest.raises(ConfigError, match="key") as caught:
        Context.fake().limit(key, "10/s")
    assert len(str(caught.value)) < 500


async def test_a_block_that_would_stop_the_loop_is_refused() -> None:
    ctx = Context.fake()
    with pytest.raises(ConfigError, match="use `async with"), ctx.limit("crm", "10/s"):
        pass
    assert ctx.reports == []


def test_a_place_is_for_one_block() -> None:
    place = Context.fake().limit("crm", "10/s")
    with place:
        pass
    with pytest.raises(ConfigError, match="anew for each"), place:
        pass


# --- in the worker ---------------------------------------------------------------------------------------------------


class Rates:
    """As much of a store as turns need: each place is a second after the one before."""

    def __init__(self) -> None:
        self.away = 0
        """So many calls fail."""
        self.taken: list[str] = []

    async def reserve(self, rate: Rate) -> float:
        if self.away:
            self.away -= 1
            message = "it is away"
            raise StoreUnavailable(message)
        self.taken.append(rate.key)
        return float(len(self.taken))


class Waiting:
    """What waits, and what it was answered."""

    def __init__(self) -> None:
        self.store, self.reservations = Rates(), Reservations()
        self.answers: dict[str, float] = {}
        self.over: set[str] = set()
        self.told: list[StoreUnavailable] = []

    def ask(self, key: str) -> None:
        def answer(seconds: float) -> None:
            assert key not in self.answers
            self.answers[key] = seconds

        self.reservations.ask(Reserve(Rate("1/s", key=key), answer), lambda: key not in self.over)

    async def made(self, count: int) -> None:
        making = asyncio.create_task(self.reservations.make(self.store, self.told.append))
        try:
            async with asyncio.timeout(30):
                while len(self.answers) < count:
                    await asyncio.sleep(0.001)
        finally:
            making.cancel()


async def test_turns_are_taken_in_the_order_in_which_they_are_asked_for() -> None:
    waiting = Waiting()
    keys = [str(number) for number in range(3 * BATCH)]
    for key in keys:
        waiting.ask(key)
    await waiting.made(len(keys))
    assert waiting.store.taken == keys
    assert list(waiting.answers.values()) == [float(number + 1) for number in range(len(keys))]


async def test_while_the_store_is_away_turns_are_asked_for_again_unless_nobody_waits_any_more() -> None:
    waiting = Waiting()
    for key in "abc":
        waiting.ask(key)
    waiting.store.away = 5
    asyncio.get_running_loop().call_later(0.05, waiting.over.add, "b")
    await waiting.made(2)
    assert waiting.store.taken == ["a", "c"]
    assert set(waiting.answers) == {"a", "c"}
