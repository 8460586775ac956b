"""A worker that has no descriptors left for a new host tries again, and leaks none."""

import asyncio
import sys

import pytest
from tests.few_descriptors import descriptors, only

from heavylift.core.outcome import Succeeded
from heavylift.executor import Application
from heavylift.executors.host_link import Phase
from heavylift.executors.link import Nanny
from heavylift.executors.pools import Pools
from heavylift.settings import Settings
from heavylift.testing.executors.cases import PATIENCE, ExecutorSuite, until

TASKS = Application("heavylift.testing.executor_tasks", "application")
NEEDED = 11
"""Descriptors that the start of a host takes, those that the host is given included."""

LARGE = 100_000 * "x"
"""Too large for a socket: it takes a descriptor to send it."""

give = ExecutorSuite().give


async def running():
    pools = Pools(await Nanny.start(TASKS), Settings.load({}, concurrency=1), patience=PATIENCE)
    await pools.start()
    return pools


@pytest.mark.parametrize(("place", "spares"), [("process", range(NEEDED)), ("thread", (0, 4))])
async def test_a_host_that_gets_no_descriptors_is_started_when_there_are_some(place, spares):
    pools = await running()
    pool = pools.exclusive if place == "process" else pools.shared
    assert isinstance(await give(pools, "give", job={"run_in": place}).outcome(), Succeeded)
    await until(lambda: all(host.phase is Phase.READY for host in pool._hosts))
    before = len(descriptors())
    for spare in spares:
        pool._not_before = float("inf")
        for host in list(pool._hosts):
            host.leave("the test says so")
        await until(lambda: not pool._hosts)
        with only(spare):  # each time another one is missing
            pool._not_before = 0.0
            attempt = give(pools, "give", job={"run_in": place})
            await until(lambda: pool._failures > 0)
            assert all(host.phase is not Phase.STARTING for host in pool._hosts)
        pool._not_before = 0.0
        assert isinstance(await attempt.outcome(), Succeeded)
        await until(lambda: len(pool._hosts) == 1)
        assert len(descriptors()) == before, f"with {spare} descriptors to spare"
    await pools.close(1.0)


@pytest.mark.parametrize("spare", [0, 1])
async def test_a_host_that_the_worker_cannot_reach_is_gone_and_another_one_starts(spare):
    pools = await running()
    pool = pools.exclusive
    pool._not_before = float("inf")
    pool._idle[0].leave("the test says so")
    await until(lambda: not pool._hosts)
    pool._not_before = 0.0
    pool._grow(1)
    [starting] = pool._hosts
    with only(spare):  # neither the nanny's descriptor of it can be received, nor a copy be made
        await until(lambda: starting.phase is Phase.GONE)
    assert starting.pid == 0
    assert pool._failures > 0
    pool._not_before = 0.0
    assert isinstance(await give(pools, "give").outcome(), Succeeded)
    await pools.close(1.0)


async def test_a_large_run_that_is_to_be_alone_waits_until_it_can_be_sent():
    pools = await running()
    pool, tried = pools.shared, []
    ready = pool.host_ready

    def ready_at_first_without_descriptors(host):
        tried.append(host)
        with only(0 if len(tried) == 1 else NEEDED):
            ready(host)

    pool.host_ready = ready_at_first_without_descriptors
    attempt = give(pools, "give", value=LARGE, job={"run_in": "thread", "fresh": True})
    assert isinstance(await attempt.outcome(), Succeeded)
    await until(lambda: not any(host.alone for host in pool._hosts))
    assert pool._sent.total() == 0
    assert len(tried) > 1
    await pools.close(1.0)


async def test_a_large_run_that_cannot_be_sent_is_tried_again_by_one_timer():
    pools = await running()
    pool, timers = pools.shared, asyncio.get_running_loop()._scheduled
    assert isinstance(await give(pools, "give", job={"run_in": "thread"}).outcome(), Succeeded)
    with only(0):
        attempt = give(pools, "give", value=LARGE, job={"run_in": "thread"})
        pool._pump()
        before = len(timers)
        for _ in range(50):
            pool._pump()
        assert len(timers) == before
    assert isinstance(await attempt.outcome(), Succeeded)
    await pools.close(1.0)


async def test_a_nanny_that_cannot_be_started_leaves_no_descriptors_behind(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        await Nanny.start(TASKS)
    assert descriptors() == before
