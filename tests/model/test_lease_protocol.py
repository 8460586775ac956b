"""The lease protocol is explored whole, and mistakes that are planted into it are found.

`-s` prints how many states there were, and the shortest way to each planted mistake. `HEAVYLIFT_TEST_MODEL=large` adds
scopes that take minutes.
"""

import os
from dataclasses import replace
from functools import lru_cache

import pytest
from tests.model import lease_world
from tests.model.checker import Step, check
from tests.model.lease_protocol import RIGHT, Bounds, Bugs, Protocol, is_over
from tests.model.lease_world import key

from heavylift.core import lifecycle

ZOMBIE = Bounds(deaths=1, stalls=1)
SCOPES = {
    "two jobs, each worker is killed": (Bounds(jobs=2, deaths=1), 20_000),
    "two jobs, a stall": (Bounds(jobs=2, stalls=1), 4_000),
    "two jobs, cancels and a dead host": (Bounds(jobs=2, hosts=1, cancels=1), 9_000),
    "each worker is killed, a cancel": (Bounds(deaths=1, cancels=1), 3_000),
    "a hand-back, a dead host, a cancel, failures": (Bounds(handbacks=1, hosts=1, cancels=1, failures=True), 2_000),
    "a stall, a cancel, a checkpoint": (Bounds(stalls=1, cancels=1, reports=1), 4_000),
    "two stalls, failures": (Bounds(stalls=2, failures=True), 4_000),
    "each worker is killed, a stall": (ZOMBIE, 10_000),
}
LARGE = {
    "each worker is killed, a cancel, a hand-back": (Bounds(deaths=1, handbacks=1, cancels=1), 25_000),
    "two jobs, a stall and a hand-back": (Bounds(jobs=2, stalls=1, handbacks=1), 30_000),
    "each worker is killed, a cancel, a dead host": (Bounds(deaths=1, hosts=1, cancels=1), 25_000),
    "two jobs, each worker is killed, a stall": (Bounds(jobs=2, deaths=1, stalls=1), 500_000),
    "each worker is killed, a stall, a cancel": (Bounds(deaths=1, stalls=1, cancels=1), 70_000),
    "a stall, a dead host, a hand-back, a cancel, failures": (
        Bounds(stalls=1, hosts=1, handbacks=1, cancels=1, failures=True),
        200_000,
    ),
}
if os.environ.get("HEAVYLIFT_TEST_MODEL") == "large":
    SCOPES |= {name: pytest.param(*scope, marks=pytest.mark.timeout(3600)) for name, scope in LARGE.items()}

PLANTED = {
    "no_fence": (ZOMBIE, "I2: attempt 1 of A gets a second outcome"),
    "sweep_without_compare": (ZOMBIE, "I2: attempt 1 of A gets a second outcome"),
    "cancel_forgotten": (Bounds(handbacks=1, cancels=1), "I6: a job whose cancel was requested goes back"),
    "dead_may_save": (ZOMBIE, "I3: a stale «succeeded» changes A"),
    "count_after_start": (ZOMBIE, "I4: attempt 1 of A begins, and the store has counted 0"),
    "claims_get_lost": (ZOMBIE, "I1: from here, not every job can come to its end"),
}
"""For each mistake where it is looked for, and what has to be found."""


@lru_cache(None)
def right(bounds):
    return checked(bounds)


def checked(bounds, bugs=RIGHT):
    protocol = Protocol(bounds, bugs)
    found = check(protocol.first, protocol.steps, is_over, key)
    print(f"\n{bounds}\n{found}")
    return found


@pytest.mark.parametrize(("bounds", "least"), SCOPES.values(), ids=SCOPES.keys())
def test_every_state_of_the_protocol_keeps_the_invariants_and_can_come_to_its_end(bounds, least):
    found = right(bounds)
    assert found.broken is None, str(found)
    assert found.complete
    assert found.states >= least, "a model that forbids what may happen proves nothing"


@pytest.mark.parametrize("bug", Bugs._fields)
def test_a_planted_mistake_is_found_with_the_way_there(bug):
    bounds, expected = PLANTED[bug]
    assert right(bounds).broken is None
    wrong = checked(bounds, Bugs(**{bug: True}))
    assert wrong.broken is not None, f"{bug} was not found: {wrong}"
    assert wrong.broken.startswith(expected), str(wrong)
    assert 0 < len(wrong.trace) < 20, "short enough to be read"


@pytest.fixture
def fresh_rules():
    """The rules are asked anew, before and after."""
    asked = (lease_world.change_of, lease_world.written, lease_world.claimed)
    for rule in asked:
        rule.cache_clear()
    yield
    for rule in asked:
        rule.cache_clear()


def wrong_losses(settle):
    """A rule that counts no losses, so that a job may be lost without end."""
    return lambda job, outcome, *rest: settle(replace(job, losses=0), outcome, *rest)


def wrong_cancels(settle):
    """A rule that forgets whether a cancel was requested."""
    return lambda job, outcome, *rest: settle(replace(job, cancel=None), outcome, *rest)._replace(knows_cancel=True)


def wrong_claims(claim):
    """A rule that uses attempt numbers again."""

    def wrong(job, *rest):
        change = claim(job, *rest)
        return change._replace(fields={**change.fields, "attempt": 1})

    return wrong


@pytest.mark.parametrize(
    ("rule", "mistake", "bounds", "expected"),
    [
        ("settle", wrong_cancels, Bounds(handbacks=1, cancels=1), "I6"),
        ("claim", wrong_claims, Bounds(handbacks=1), "I4"),
        ("settle", wrong_losses, Bounds(deaths=1), "I4"),
    ],
    ids=["cancels", "claims", "losses"],
)
def test_a_wrong_rule_is_found(fresh_rules, monkeypatch, rule, mistake, bounds, expected):
    monkeypatch.setattr(lifecycle, rule, mistake(getattr(lifecycle, rule)))
    found = checked(bounds)
    assert found.broken is not None
    assert found.broken.startswith(expected), str(found)


# --- the checker itself ----------------------------------------------------------------------------------------------


def counting(limit):
    def steps(number):
        if number < limit:
            yield Step("one more", number + 1)
            yield Step("two more", number + 2, fault=True)

    return steps


def test_the_checker_explores_all_there_is():
    found = check(0, counting(10), lambda number: number >= 10, lambda number: number)
    assert (found.states, found.complete, found.broken) == (12, True, None)


def test_the_checker_says_when_it_did_not_see_everything():
    found = check(0, counting(10_000), lambda number: True, lambda number: number, limit=100)
    assert not found.complete
    assert "NOT complete" in str(found)


def test_the_checker_finds_a_state_that_only_a_fault_leads_out_of():
    def steps(number):
        if number < 3:
            yield Step("on", number + 1)
        elif number == 3:
            yield Step("a lucky accident", 4, fault=True)

    found = check(0, steps, lambda number: number == 4, lambda number: number)
    assert found.broken is not None
    assert found.broken.startswith("I1")


def test_the_checker_finds_a_circle_that_leads_nowhere():
    def steps(number):
        yield Step("round", (number + 1) % 3)
        if number == 0:
            yield Step("out", 7)
        if number == 7:
            yield Step("stay", 7)

    assert check(0, steps, lambda number: number == 7, lambda number: number).broken is None
    found = check(1, steps, lambda number: number == 9, lambda number: number)
    assert found.broken is not None


def test_the_trace_of_the_checker_is_a_shortest_one():
    def steps(number):
        yield Step("up", number + 1)
        yield Step("jump", number + 5, broken="a wall" if number == 6 else None)

    found = check(0, steps, lambda number: False, lambda number: number)
    assert (found.broken, found.trace) == ("a wall", ("up", "jump", "jump"))
