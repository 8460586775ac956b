"""What a submit adds to its job, whoever submits: keys filled in, an id of the caller's own, and what follows it."""

import asyncio
from typing import Any

import pytest

from heavylift import (
    Concurrency,
    ConfigError,
    Context,
    Heavylift,
    JobNotFound,
    Rate,
    Retention,
    SubmitError,
)
from heavylift.core.errors import DuplicateJob, InvalidArguments, JobPruned
from heavylift.core.options import FollowUp, Options
from heavylift.testing import FakeClock

LIMITS = (Concurrency(2, key="{account}"), Rate("100/min", key="crm"))


def sync(account: str, page: int = 1) -> None: ...
def alert(job_id: str) -> None: ...


@pytest.fixture
def lift(tmp_path):
    lift = Heavylift(f"sqlite:///{tmp_path}/jobs.db")
    lift.task(limits=LIMITS, fair_share="{account}", unique="{task}:{account}:{page}")(sync)
    lift.task(name="plain")(sync)
    yield lift
    lift.sync.close()


@pytest.fixture
async def opened(lift):
    async with lift:
        yield lift


def keys_of(job):
    return job.options.unique, job.options.fair_share, [limit.key for limit in job.options.limits]


def expected(account, page=1):
    return f"sync:{account}:{page}", account, [account, "crm"]


async def stored(lift):
    return [job async for job in lift.find()]


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_every_way_to_submit_fills_in_the_keys(opened):
    task = opened.find_task("sync")
    handles = [
        await task.submit("a"),
        *await task.submit_many([("b",), ("b", 2)], kwargs=[{"account": "c"}]),
        await Context.fake().submit(task, "d"),
        await task.using(priority=3).submit(account="e", page=5),
        *await asyncio.to_thread(lambda: [task.submit_sync("f"), *task.submit_many_sync([("g",)])]),
    ]
    calls = [("a",), ("b",), ("b", 2), ("c",), ("d",), ("e", 5), ("f",), ("g",)]
    for handle, call in zip(handles, calls, strict=True):
        assert keys_of(await handle.refresh()) == expected(*call), call


async def test_a_job_without_keys_has_the_options_of_its_task(opened):
    task = opened.find_task("plain")
    handle = await task.submit("a")
    assert handle.job.options is task.options


@pytest.mark.parametrize("account", ["", "x" * 513])
async def test_arguments_that_give_no_key_queue_nothing(opened, account):
    """Of many, too, for all are looked at before the first is queued."""
    task = opened.find_task("sync")
    place = ["These are the arguments of number 1, counted from 0; nothing was queued."]
    for submit, notes in (
        (lambda: task.submit(account), []),
        (lambda: task.submit_many([("a",), (account,)]), place),
        (lambda: asyncio.to_thread(task.submit_sync, account), []),
        (lambda: asyncio.to_thread(task.submit_many_sync, [("a",), (account,)]), place),
    ):
        with pytest.raises(InvalidArguments) as caught:
            await submit()
        assert [problem.pointer for problem in caught.value.problems] == ["/account"]
        assert getattr(caught.value, "__notes__", []) == notes
    assert await stored(opened) == []


def test_a_key_of_a_submit_is_checked_where_it_is_given(lift):
    task = lift.find_task("plain")
    with pytest.raises(ConfigError, match=r"^unique: .*Did you mean 'account'\?"):
        task.using(unique="{acount}")
    with pytest.raises(ConfigError, match="limits: there are two"):
        task.using(limits=[Rate("1/s", key="plain"), Rate("2/s")])


def test_tasks_that_give_a_key_different_limits_are_refused_together(lift):
    with pytest.raises(ConfigError, match="limits: tasks 'sync' and 'other' share the key 'crm'"):
        lift.task(name="other", limits=[Rate("5/s", key="crm")])(sync)
    with pytest.raises(ConfigError, match="tasks 'sync' and 'other' share"):
        lift.define("other").options(limits=[Rate("5/s", key="crm")]).handler(sync)
    with pytest.raises(ConfigError, match="tasks 'sync' and 'other' share"):
        lift.command("other", ["true"], limits=[Rate("5/s", key="crm")])
    assert "other" not in lift.registry
    lift.task(name="other", limits=[Rate("100/60s", key="crm")])(sync)


def test_a_command_has_keys_of_its_arguments(lift):
    lift.command("copy", ["cp", "{source}", "x"], unique="copy:{source}")
    handle = lift.find_task("copy").submit_sync(source="a")
    assert handle.job.options.unique == "copy:a"
    with pytest.raises(ConfigError, match="'target' is no argument of task 'move'"):
        lift.command("move", ["mv", "{source}", "x"], unique="{target}")


def test_a_definition_is_checked_when_it_is_whole(lift):
    lift.define("a").options(debounce="5s").options(unique="{account}").handler(sync)
    with pytest.raises(ConfigError, match=r"debounce: .* without a unique key"):
        lift.define("b").options(debounce="5s").handler(sync)
    with pytest.raises(ConfigError, match="debounce: -5 is no duration"):
        lift.define("c").options(debounce=-5)


# --- ids ------------------------------------------------------------------------------------------------------------


async def test_an_id_of_ones_own_is_submitted_once(opened):
    task = opened.find_task("plain").using(id="order-7")
    first, second = await task.submit("a"), await task.using(priority=5).submit("a")
    assert first.id == second.id == "order-7"
    assert second.job.options.priority == 0
    assert (await asyncio.to_thread(task.submit_sync, "a")).id == "order-7"
    assert [job.id for job in await stored(opened)] == ["order-7"]
    assert (await opened.get("order-7")).job.task == "plain"


@pytest.mark.parametrize(("name", "call", "reason"), [("plain", "b", "other arguments"), ("sync", "a", "task 'plain'")])
async def test_the_id_of_another_submit_is_refused(opened, name, call, reason):
    await opened.find_task("plain").using(id="order-7").submit("a")
    with pytest.raises(DuplicateJob, match=f"The id 'order-7' belongs to a job .*{reason}") as caught:
        await opened.find_task(name).using(id="order-7").submit(call)
    assert (caught.value.unique, caught.value.existing) == (None, "order-7")
    assert len(await stored(opened)) == 1


async def test_many_have_ids_of_their_own_too(opened):
    task = opened.find_task("plain")
    for _ in range(2):
        handles = await task.submit_many([("a",)], kwargs=[{"account": "b"}], ids=["order-1", "order-2"])
        assert [handle.id for handle in handles] == ["order-1", "order-2"]
    handles = await asyncio.to_thread(lambda: task.submit_many_sync([("c",)], ids=["order-3"]))
    assert [handle.id for handle in handles] == ["order-3"]
    with pytest.raises(DuplicateJob, match="'order-1' belongs to a job with other arguments"):
        await task.submit_many([("d",), ("x",)], ids=["order-4", "order-1"])
    assert {job.id for job in await stored(opened)} == {"order-1", "order-2", "order-3", "order-4"}


async def test_an_id_that_stands_twice_among_many_is_refused_for_the_second(opened):
    requests = [("plain", b'{"account":"%d"}' % number, Options()) for number in (1, 2, 1, 3)]
    first, second, again, other = await opened.client.add(requests, ["order-7", "order-7", "order-7", None])
    assert (first.created, first.job.args) == (True, requests[0][1])
    assert (second.existing, again.created, other.created) == ("order-7", False, True)
    assert {job.args for job in await stored(opened)} == {requests[0][1], requests[3][1]}


IDS: dict[str, Any] = {
    "empty": "",
    "with a space": "a b",
    "a mark first": "-a",
    "too long": "x" * 129,
    "10 KB": "x" * 10_000,
    "a number": 7,
    "a path": "a/b",
}


@pytest.mark.parametrize("name", IDS.values(), ids=IDS)
def test_what_cannot_be_an_id_is_refused(lift, name):
    with pytest.raises(ConfigError, match=r"^id: .* is no id of a job; give 1-128"):
        lift.find_task("plain").using(id=name)
    with pytest.raises(ConfigError, match=r"^id: .* is no id of a job"):
        lift.find_task("plain").submit_many_sync([("a",)], ids=[name])


def test_an_id_belongs_to_one_job(lift):
    task = lift.find_task("plain")
    for submit in (
        lambda: task.submit_many_sync([("a",), ("b",)], ids=["x"]),
        lambda: task.submit_many_sync([("a",), ("b",)], ids=["x", "x"]),
        lambda: task.using(id="x").submit_many_sync([("a",)]),
    ):
        with pytest.raises(ConfigError, match=r"^ids: . jobs have as many different ids, or none"):
            submit()
    assert list(lift.sync.find()) == []


async def test_an_id_whose_job_was_pruned_is_not_run_again(lift):
    clock = FakeClock()
    with lift.overridden(clock=clock):
        async with lift:
            task = lift.find_task("plain")
            handle = await task.using(id="order-7").submit("a")
            await handle.cancel()
            clock.advance(61)
            assert await lift.store.prune(Retention(0)) == 1
            with pytest.raises(JobPruned, match="'order-7' was removed"):
                await task.using(id="order-7").submit("a")
            answers = await lift.client.add([("plain", b"{}", Options())] * 2, ["order-7", "order-8"])
            assert isinstance(answers[0], JobPruned)
            assert answers[1].job.id == "order-8"
            assert [job.id for job in await stored(lift)] == ["order-8"]
            clock.advance("25h")
            await lift.store.prune(Retention())
            assert (await task.using(id="order-7").submit("a")).id == "order-7"


# --- what follows ---------------------------------------------------------------------------------------------------


def test_a_task_that_takes_a_job_id_may_follow(lift):
    alerting = lift.task(limits=[Concurrency(1)], queue="alerts")(alert)
    expected = FollowUp("alert", Options().using(limits=[Concurrency(1, key="alert")], queue="alerts"))
    made = [
        lift.task(name="a", on_exhausted=alerting)(sync),
        lift.define("b").options(on_exhausted=alerting).handler(sync),
        lift.find_task("plain").using(on_exhausted=alerting),
    ]
    assert [task.options.on_exhausted for task in made] == [expected] * 3
    assert made[2].submit_sync("x").job.options.on_exhausted == expected
    assert lift.task(name="c", on_exhausted=alerting.using(priority=9))(sync).options.on_exhausted.options.priority == 9


def nothing() -> None: ...
def two(job_id: str, reason: str) -> None: ...
def other_name(job: str) -> None: ...
def other_type(job_id: int) -> None: ...
def more(job_id: str, reason: str = "failed") -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (nothing, "/job_id: there is no such argument"),
        (two, "/reason: Field required"),
        (other_name, "/job_id: there is no such argument"),
        (other_type, "/job_id: Input should be a valid integer"),
    ],
)
def test_a_task_that_does_not_take_a_job_id_alone_is_refused_with_the_reason(lift, function, reason):
    bad = lift.task(function)
    for define in (
        lambda: lift.task(name="a", on_exhausted=bad),
        lambda: lift.define("b").options(on_exhausted=bad),
        lambda: lift.find_task("plain").using(on_exhausted=bad),
    ):
        with pytest.raises(ConfigError, match=f"^on_exhausted: task '{function.__name__}' .*{reason}"):
            define()


def test_what_follows_has_keys_that_are_known_before(lift):
    assert lift.task(unique="{task}:{reason}")(more).follow_up().options.unique == "more:failed"
    with pytest.raises(ConfigError, match="on_exhausted: a key of task 'alert' depends on its job_id"):
        lift.task(name="a", on_exhausted=lift.task(unique="{job_id}")(alert))
    with pytest.raises(ConfigError, match="on_exhausted: many jobs of task 'more' may follow, and 'x' names one"):
        lift.find_task("more").using(id="x").follow_up()


def test_what_follows_is_of_the_same_application(lift):
    elsewhere = Heavylift("memory://").task(alert)
    with pytest.raises(ConfigError, match="on_exhausted: task 'alert' is not of this application"):
        lift.task(name="a", on_exhausted=elsewhere)(sync)


def test_errors_of_ids_are_of_the_known_families():
    assert issubclass(DuplicateJob, SubmitError)
    assert issubclass(JobPruned, JobNotFound)
