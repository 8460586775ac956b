"""Right uses of tasks: both type checkers accept every line and infer the types that are asserted."""

from dataclasses import dataclass
from typing import Annotated, assert_type

from heavylift import (
    Concurrency,
    Context,
    Handle,
    Heavylift,
    HeavyliftError,
    Provide,
    Rate,
    Retention,
    Retry,
    exponential,
    provided,
)

lift = Heavylift("sqlite:///x.db")


@dataclass
class Report:
    rows: int


@lift.task
def build(ctx: Context, customer_id: int, year: int = 2026) -> Report:
    """A function with a context, registered without options."""
    ctx.progress(customer_id, year)
    return Report(customer_id)


@lift.task(timeout="10m", retry=Retry(3, exponential(2)), queue="reports")
def build_slowly(ctx: Context, customer_id: int, year: int = 2026) -> Report:
    """A function with a context, registered with options."""
    ctx.progress(customer_id, year)
    return Report(customer_id)


@lift.task()
def add(left: int, right: int) -> int:
    """A function without a context."""
    return left + right


@lift.task(queue="mail")
async def send(ctx: Context, address: str, *, copy: bool = False) -> list[str]:
    """A coroutine function with a context."""
    ctx.progress(1, 1)
    return [address] * (2 if copy else 1)


@lift.task
async def fetch(url: str) -> bytes:
    """A coroutine function without a context."""
    return url.encode()


@lift.task
def forget(name: str) -> None:
    """A function without a result."""
    name.strip()


@lift.task
def alert(ctx: Context, job_id: str) -> None:
    """A function that may follow a failed job."""
    ctx.log.warning(job_id)


@lift.task(
    limits=[Concurrency(2, key="{account}"), Rate("100/min", key="crm")],
    fair_share="{account}",
    unique="sync:{account}",
    on_conflict="queue-one",
    unique_for="1h",
    expires="1d",
    on_exhausted=alert.using(priority=9),
    keep=Retention("30d", succeeded=10),
)
def sync(account: str) -> int:
    """A function that is limited."""
    return len(account)


def name_of_sender() -> str:
    """A provider."""
    return "me"


def report_on(ctx: Context, customer_id: int) -> Report:
    """A function that is not decorated."""
    ctx.progress(1, 1)
    return Report(customer_id)


async def fetch_from(url: str, *, sender: Annotated[str, Provide(name_of_sender)] = provided) -> bytes:
    """A coroutine function that is not decorated, with a dependency."""
    return (url + sender).encode()


defined = lift.define("report-on").options(timeout="30m", retry=Retry(2)).handler(report_on)
defined_async = lift.define("fetch-from").provide(sender=name_of_sender).handler(fetch_from)


@lift.define("by-decorator").handler
def decorated(ctx: Context, number: int) -> float:
    """The builder's end is a decorator, too."""
    ctx.progress(number)
    return number / 2


async def submit_defined() -> None:
    """The builder makes the same tasks as the decorator; a provided parameter has a default."""
    assert_type(await defined.submit(7), Handle[Report])
    assert_type(await defined_async.submit("here"), Handle[bytes])
    assert_type(await decorated.using(priority=5).submit(7), Handle[float])
    assert_type(defined(Context.fake(), 7), Report)


def submit_without_a_loop() -> None:
    """The same types without an event loop."""
    assert_type(build.submit_sync(7, year=2025), Handle[Report])
    assert_type(send.using(priority=5).submit_sync("me", copy=True), Handle[list[str]])
    assert_type(build.submit_many_sync([(7,), (8, 2025)]), list[Handle[Report]])
    assert_type(lift.sync.result(build.submit_sync(7), timeout="5m"), Report)
    assert_type([job.id for job in lift.sync.find(state="failed")], list[str])


def run_steps(ctx: Context) -> int:
    """A step has its function's type; a submit takes the task's arguments."""
    ctx.submit(build, 7, year=2025)
    ctx.submit(send.using(priority=5), "me", copy=True)
    assert_type(ctx.step("report", report_on, Context.fake(), 7), Report)
    with ctx.shield("publish"):
        return len(ctx.tempdir.name)


async def run_steps_async(ctx: Context) -> int:
    """A step of a coroutine function is awaited."""
    return len(await ctx.step("fetch", fetch_from, "here"))


async def submit_each() -> None:
    """The context is not among the arguments of a submit, and the result's type comes with the handle."""
    assert_type(await build.submit(7, year=2025), Handle[Report])
    assert_type(await build.submit(customer_id=7), Handle[Report])
    assert_type(await build_slowly.submit(7, 2025), Handle[Report])
    assert_type(await add.submit(1, right=2), Handle[int])
    assert_type(await send.submit("me", copy=True), Handle[list[str]])
    assert_type(await fetch.submit("here"), Handle[bytes])
    assert_type(await forget.submit("it"), Handle[None])


async def wait_for_results() -> None:
    """A result has the type that the function returns."""
    handle = await build_slowly.submit(7, year=2025)
    assert_type(await handle.result(timeout="5m"), Report)
    assert_type(await handle.result(), Report)
    assert_type((await handle.result(timeout=5)).rows, int)
    assert_type(await (await send.submit("me")).result(), list[str])


async def submit_with_other_options() -> None:
    """Options for one submit leave the types alone."""
    assert_type(await build.using(priority=5).submit(7), Handle[Report])
    assert_type(await send.using(queue="slow", delay="10m").submit("me"), Handle[list[str]])
    assert_type(await add.using(priority=1).using(timeout=60).submit(1, 2), Handle[int])
    assert_type(await sync.using(id="order-7", debounce="5s", on_exhausted=None).submit("acme"), Handle[int])
    assert_type(await sync.submit_many([("acme",)], ids=["order-8"]), list[Handle[int]])


async def submit_many_at_once() -> None:
    """Many submits give many handles."""
    assert_type(await build.submit_many([(7,), (8, 2025)]), list[Handle[Report]])
    assert_type(await send.submit_many(kwargs=[{"address": "me"}]), list[Handle[list[str]]])
    assert_type(await build.using(priority=5).submit_many([(7,)]), list[Handle[Report]])
    for answer in await build.submit_many([(7,)], return_exceptions=True):
        assert_type(answer, Handle[Report] | HeavyliftError)
    for answer in build.submit_many_sync([(7,)], return_exceptions=True):
        assert_type(answer, Handle[Report] | HeavyliftError)


async def operate() -> None:
    """Queues have limits by name, and waiting jobs are moved."""
    queue = await lift.set_queue("mail", concurrency=2, max_size=100, rate="50/s", keep=Retention("7d", succeeded=10))
    assert_type(queue.concurrency, int | None)
    assert_type((await lift.pause("mail", by="anna", reason="the mail server is down")).paused, bool)
    assert_type((await lift.set_queue("mail", concurrency=None)).max_size, int | None)
    handle = await build.submit(7)
    await handle.move(priority=9, run_at="2027-01-01T08:00:00Z")
    await handle.move(delay="5m")
    assert_type((await handle.outlook()).reason, str | None)


async def call_plainly() -> None:
    """A task is still its function, context included."""
    assert_type(build(Context.fake(), 7), Report)
    assert_type(build_slowly(Context.fake(), 7, year=2025), Report)
    assert_type(add(1, 2), int)
    assert_type(await send(Context.fake(), "me", copy=True), list[str])
    assert_type(await fetch("here"), bytes)
