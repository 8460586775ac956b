"""Where a worker asks for jobs: it must ask wherever there may be some, and need not ask elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

from hypothesis import example, given
from hypothesis import strategies as st

from heavylift.core import lifecycle
from heavylift.core.errors import StoreUnavailable
from heavylift.core.job import Job
from heavylift.core.options import Options, RunIn, Slots
from heavylift.demand import LULL, Demand, Shares
from heavylift.store import SystemClock


def jobs(count: int, place: RunIn = "process") -> list[Job]:
    return [lifecycle.submit(f"{place}-{number}", "t", b"{}", Options(run_in=place), 0.0)[0] for number in range(count)]


def test_at_first_it_asks_everywhere_and_then_where_there_was_more() -> None:
    demand, free = Demand(), Slots(2, 3, 4)
    asked = demand.slots(free)
    assert asked == free
    assert demand.brought(asked, jobs(2)) is True
    assert demand.slots(free) == Slots(2, 0, 0)
    assert demand.brought(Slots(2, 0, 0), jobs(1)) is False
    assert demand.slots(free) == Slots(0, 0, 0)


def never(error: StoreUnavailable) -> None:
    raise error


async def test_a_hint_while_a_claim_is_under_way_is_not_lost() -> None:
    demand, free = Demand(), Slots(2, 3, 4)
    asked = demand.slots(free)
    demand.hint()
    assert demand.brought(asked, []) is False
    await demand.wait()
    assert demand.slots(free) == free


async def test_a_hint_that_met_no_room_stands_until_there_is_some() -> None:
    demand = Demand()
    asked = demand.slots(Slots(2, 0, 0))
    assert demand.brought(asked, []) is False
    demand.freed("loop")
    await demand.wait()
    assert demand.slots(Slots(2, 1, 0)) == Slots(0, 1, 0)


def test_a_free_slot_where_nothing_waits_is_no_reason_to_ask() -> None:
    demand = Demand()
    demand.brought(demand.slots(Slots(1, 1, 1)), [])
    demand.freed("process")
    assert not demand._due.is_set()


async def test_it_asks_when_something_becomes_due_after_a_claim_that_left_room_and_never_else() -> None:
    demand, store, clock = Demand(), Diary(), SystemClock()
    keeping = asyncio.create_task(demand.keep_time(store, clock, never))
    try:
        demand.brought(demand.slots(Slots(2, 0, 0)), jobs(2))
        await asyncio.sleep(3 * LULL)
        assert store.questions == 0
        store.next = time.time() + 0.05
        demand.brought(demand.slots(Slots(2, 0, 0)), jobs(1))
        async with asyncio.timeout(30):
            await demand.wait()
        assert store.questions == 1
        assert time.time() >= store.next
        assert demand.slots(Slots(2, 1, 1)) == (2, 1, 1)
    finally:
        keeping.cancel()


async def test_a_question_that_the_store_does_not_answer_is_asked_again_after_the_next_claim() -> None:
    demand, store, clock = Demand(), Diary(), SystemClock()
    told: list[StoreUnavailable] = []
    store.away = True
    keeping = asyncio.create_task(demand.keep_time(store, clock, told.append))
    try:
        demand.brought(demand.slots(Slots(1, 0, 0)), [])
        async with asyncio.timeout(30):
            while not store.questions:
                await asyncio.sleep(LULL)
        assert len(told) == 1, "it counts as lost contact, after which no worker is declared dead for a while"
        store.away, store.next = False, time.time()
        demand.hint()
        demand.brought(demand.slots(Slots(1, 0, 0)), [])
        async with asyncio.timeout(30):
            await demand.wait()
        assert store.questions == 2
    finally:
        keeping.cancel()


async def test_of_several_moments_the_soonest_is_kept() -> None:
    demand = Demand()
    demand.slots(Slots())
    demand.expect(1000.0)
    demand.expect(0.01)
    demand.expect(1000.0)
    async with asyncio.timeout(30):
        await demand.wait()


class Diary:
    """As much of a store as is asked when something becomes due."""

    def __init__(self) -> None:
        self.questions = 0
        self.next: float | None = None
        self.away = False

    async def next_due(self) -> float | None:
        self.questions += 1
        if self.away:
            message = "it is away"
            raise StoreUnavailable(message)
        return self.next


# --- the turns of queues ---------------------------------------------------------------------------------------------

ONE = Slots(process=1)


def of(queue: str, place: RunIn = "process") -> Job:
    return lifecycle.submit("job", "t", b"{}", Options(queue=queue, run_in=place), 0.0)[0]


class Line:
    """Claims, one after the other, of a store in which queues have jobs; `counts` of what was claimed."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.shares = Shares(weights)
        self.counts = Counter[str]()

    def claim(self, waiting: Mapping[str, int], slots: int = 1, place: RunIn = "process") -> list[str]:
        """As the contract of `Store.claim` says: by weight, rounded up, and what one cannot use goes to the others."""
        asked = Slots(**{place: slots})
        order = self.shares.order(asked)
        left, taken = dict(waiting), list[str]()
        while len(taken) < slots and (some := [name for name in order if left.get(name, 0)]):
            free, whole = slots - len(taken), sum(order[name] for name in some)
            for name in some:
                count = min(-(-free * order[name] // whole), left[name], slots - len(taken))
                left[name] -= count
                taken += [name] * count
        self.shares.took(list(order), asked, [of(name, place) for name in taken])
        self.counts.update(taken)
        return taken


WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 100), min_size=1)


@given(WEIGHTS, st.integers(1, 100))
@example({"a": 5, **dict.fromkeys("bcdef", 1)}, 5)
def test_single_claims_of_full_queues_are_in_proportion_to_the_weights(weights: dict[str, int], claims: int) -> None:
    line = Line(weights)
    for _ in range(claims):
        line.claim(dict.fromkeys(weights, 1000))
    whole = sum(weights.values())
    for name, weight in weights.items():
        assert abs(line.counts[name] - claims * weight / whole) < 2


@given(WEIGHTS, st.lists(st.integers(1, 20), min_size=1, max_size=50))
def test_claims_of_many_are_in_proportion_too(weights: dict[str, int], sizes: list[int]) -> None:
    line = Line(weights)
    for size in sizes:
        line.claim(dict.fromkeys(weights, 1000), size)
    whole = sum(weights.values())
    for name, weight in weights.items():
        # What one claim rounds up for others is made good by the next ones.
        assert abs(line.counts[name] - sum(sizes) * weight / whole) < max(sizes) + 2


@given(WEIGHTS, st.integers(1, 20), st.integers(1, 50), st.integers(1, 100))
def test_a_queue_that_was_empty_has_saved_no_turns_up(weights: dict[str, int], size: int, before: int, n: int) -> None:
    late, *others = weights
    if not others:
        return
    line = Line(weights)
    for _ in range(before):
        line.claim(dict.fromkeys(others, 10**6), size)
    line.counts.clear()
    for _ in range(n):
        line.claim(dict.fromkeys(weights, 10**6))
    whole = sum(weights.values())
    # Whom the claims before gave too much, because they round up, waits until it is made good.
    assert line.counts[late] <= n * weights[late] / whole + size + 2


@given(WEIGHTS, st.integers(1, 100))
def test_an_empty_queue_costs_the_others_nothing(weights: dict[str, int], claims: int) -> None:
    line = Line({"empty": 100, **weights})
    for _ in range(claims):
        assert line.claim(dict.fromkeys(weights, 1000))
    whole = sum(weights.values())
    for name, weight in weights.items():
        assert abs(line.counts[name] - claims * weight / whole) < 2


def test_what_runs_in_one_place_takes_no_turns_in_another() -> None:
    line = Line({"a": 1, "b": 1})
    begun = Counter[str]()
    for _ in range(100):
        line.claim({"b": 1000}, 10, "loop")
        begun.update(line.claim({"a": 1000, "b": 1000}))
    assert begun == {"a": 50, "b": 50}


def test_a_worker_that_serves_all_queues_names_none() -> None:
    demand = Demand({})
    assert demand.queues(demand.slots(ONE)) == {}


def test_a_worker_names_its_queues_in_the_order_of_their_turns() -> None:
    demand = Demand({"a": 1, "b": 2})
    orders = []
    for queue in ("b", "a", "b"):
        demand.hint()
        asked = demand.slots(ONE)
        orders.append(list(demand.queues(asked)))
        demand.brought(asked, [of(queue)])
    assert orders == [["b", "a"], ["a", "b"], ["b", "a"]]
