"""Where a worker asks for jobs: it must ask wherever there may be some, and need not ask elsewhere."""

from __future__ import annotations

from heavylift.core import lifecycle
from heavylift.core.job import Job
from heavylift.core.options import Options, RunIn, Slots
from heavylift.demand import Demand


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
