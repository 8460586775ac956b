"""Right uses of tasks: both type checkers accept every line and infer the types that are asserted."""

from dataclasses import dataclass
from typing import assert_type

from heavylift import Context, Handle, Heavylift, Retry, exponential

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


async def submit_many_at_once() -> None:
    """Many submits give many handles."""
    assert_type(await build.submit_many([(7,), (8, 2025)]), list[Handle[Report]])
    assert_type(await send.submit_many(kwargs=[{"address": "me"}]), list[Handle[list[str]]])
    assert_type(await build.using(priority=5).submit_many([(7,)]), list[Handle[Report]])


async def call_plainly() -> None:
    """A task is still its function, context included."""
    assert_type(build(Context.fake(), 7), Report)
    assert_type(build_slowly(Context.fake(), 7, year=2025), Report)
    assert_type(add(1, 2), int)
    assert_type(await send(Context.fake(), "me", copy=True), list[str])
    assert_type(await fetch("here"), bytes)
