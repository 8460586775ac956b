"""Opening and closing of dependencies: a stop at any instruction, threads and coroutines that share them, cancels."""

import asyncio
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Annotated

import pytest

from heavylift import context as contexts
from heavylift.context import Context
from heavylift.core.dependency import Provide
from heavylift.core.errors import Cancelled, ConfigError
from heavylift.core.options import Options
from heavylift.core.task import define
from heavylift.executors import providing
from heavylift.executors.providing import Kept, Scope
from heavylift.executors.providing_async import AsyncKept, AsyncScope
from heavylift.executors.reporting import HostReporter, Wire
from heavylift.executors.stopping import Guard
from heavylift.executors.wire import HEADER, STOP_SIGNAL, Kind, Page

RUN = 7


def task_of(function):
    return define(function, None, Options(), Context)


def same(value):
    return value


def nothing():
    pass


@pytest.fixture
def log():
    return []


def resource(log, name, *needs):
    """A provider that writes down what becomes of it; to be collected is not to be closed."""

    def provider(base=""):
        try:
            log.append(f"open {name}")
            yield f"{name} on {base}" if base else name
        except GeneratorExit:
            log.append(f"lost {name}")
            raise
        except BaseException as error:
            log.append(f"close {name} {type(error).__name__}")
            raise
        log.append(f"close {name}")

    if needs:
        provider.__annotations__["base"] = Annotated[str, needs[0]]
    return provider


@pytest.fixture
def guard():
    before = signal.getsignal(STOP_SIGNAL), sys.unraisablehook
    page, memory = Page.create()
    os.close(memory)
    guard = Guard(page)
    ours, theirs = socket.socketpair()
    guard.reporter = HostReporter(Wire(ours), page, guard, 1000)
    own = {*providing.OWN_CODE, *contexts.OWN_CODE, *guard.reporter.unstoppable()}
    guard.install(own, guard.reporter.protected())
    page.start(RUN, 0.0, 0.0)
    guard.theirs = theirs
    yield guard
    ours.close()
    theirs.close()
    signal.signal(STOP_SIGNAL, before[0])
    sys.unraisablehook = before[1]
    page.close()


def stopped_at(guard, number, run):
    """Run it, with a stop signal at its instruction of that number, and at each after it until one is heard; False if
    it has fewer instructions.
    """
    count = 0

    def trace(frame, event, _argument):
        nonlocal count
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count >= number:
                guard._page.stop = RUN
                guard._on_signal(STOP_SIGNAL, frame)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except Cancelled:
        return True
    finally:
        guard.forget()
        sys.settrace(before)
        guard._page.stop = guard._raised_in = 0
    return count >= number


def has_checkpoint(guard):
    guard.reporter.end()
    try:
        data = guard.theirs.recv(65536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return HEADER.unpack_from(data)[1] == Kind.CHECKPOINT


def test_a_stop_at_any_instruction_leaves_nothing_open(guard, log):
    host = resource(log, "host")
    first = resource(log, "first", Provide(host, scope="host"))
    second = resource(log, "second", Provide(first))

    def code(ctx: Context, db: Annotated[str, Provide(second)], again: Annotated[str, Provide(first)]):
        ctx.step("step", log.append, "step")
        log.append("end")

    task = task_of(code)
    number, seen = 0, set()
    more = True
    while more:
        number += 1
        log.clear()
        guard.reporter.begin(RUN, 0)
        kept, ctx = Kept(), Context(guard.reporter, job_id="job", task="code", attempt=1)
        scope = Scope(kept, task, ctx, guard, RUN)
        more = stopped_at(guard, number, lambda scope=scope, ctx=ctx: scope.run({"ctx": ctx}, same, nothing))
        assert ("step" in log) == has_checkpoint(guard), (number, log)
        assert kept.close() is None
        opened = [line.removeprefix("open ") for line in log if line.startswith("open ")]
        closed = [line.split()[1] for line in log if line.startswith("close ")]
        # One that is interrupted behind its note of being open has seen that itself.
        assert opened == closed[::-1] or opened == closed[::-1][: len(opened)], (number, log)
        assert not any(line.startswith("lost") for line in log), (number, log)
        seen.add(tuple(log))
    assert number > 200
    assert any("close second Cancelled" in lines and "step" not in lines for lines in seen)
    assert any(lines[-2:] == ("close first Cancelled", "close host") and "open second" not in lines for lines in seen)
    assert log == ["open host", "open first", "open second", "step", "end", "close second", "close first", "close host"]


def test_threads_that_need_it_at_once_share_one_of_the_host(log):
    together = threading.Barrier(8)

    def code(value: Annotated[str, Provide(resource(log, "host"), scope="host")]):
        return value

    task, kept, opened = task_of(code), None, []
    kept = Kept(None, lambda: opened.append(True))

    def run(_):
        together.wait()
        return Scope(kept, task, Context.fake(), SimpleNamespace(run=0), 1).run({}, same, nothing)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(run, range(8))) == ["host"] * 8
    assert (log, opened) == (["open host"], [True])
    assert kept.close() is None
    assert log == ["open host", "close host"]


def test_an_override_is_called_in_its_place(log):
    real = resource(log, "real")

    def code(value: Annotated[str, Provide(real)]):
        return value

    overrides = {real: lambda: "fake"}
    scope = Scope(Kept(overrides), task_of(code), Context.fake(), SimpleNamespace(run=0), 1)
    assert scope.run({}, same, nothing) == "fake"
    assert log == []

    async def fake(): ...

    overrides[real] = fake
    with pytest.raises(ConfigError, match="fake is async"):
        Scope(Kept(overrides), task_of(code), Context.fake(), SimpleNamespace(run=0), 1).run({}, same, nothing)


def test_the_errors_of_what_a_host_keeps_are_all_told(log):
    def broken():
        yield 1
        raise ValueError

    kept = Kept()

    def code(
        one: Annotated[str, Provide(resource(log, "host"), scope="host")],
        two: Annotated[int, Provide(broken, scope="host")],
    ): ...

    Scope(kept, task_of(code), Context.fake(), SimpleNamespace(run=0), 1).run({}, same, nothing)
    assert isinstance(kept.close(), ValueError)
    assert log == ["open host", "close host"]


# --- coroutines --------------------------------------------------------------------------------------------------


def asynchronous(log, name):
    async def provider():
        try:
            await asyncio.sleep(0)
            log.append(f"open {name}")
            yield name
        except BaseException as error:
            log.append(f"close {name} {type(error).__name__}")
            raise
        await asyncio.sleep(0)
        log.append(f"close {name}")

    return provider


def async_task(log, body):
    shared, stream, sync = asynchronous(log, "shared"), asynchronous(log, "stream"), resource(log, "sync")

    async def code(
        ctx: Context,
        kept: Annotated[str, Provide(shared, scope="host")],
        streamed: Annotated[str, Provide(stream)],
        threaded: Annotated[str, Provide(sync)],
    ):
        async def leave():
            await asyncio.sleep(0)
            log.append("exit")

        ctx.on_exit(leave)
        return await body(ctx, f"{kept} {streamed} {threaded}")

    return task_of(code)


async def run_async(kept, task, stops=None):
    ctx = Context.fake()
    return await AsyncScope(kept, task, ctx, stops or SimpleNamespace(run=0), 1).run({"ctx": ctx}, same)


ENDS = ["exit", "close sync{0}", "close stream{0}"]


def ends(error=""):
    return [line.format(error) for line in ENDS]


async def test_coroutines_have_providers_of_all_kinds(log):
    async def body(ctx, values):
        return [values, await ctx.step("step", later, 7)]

    async def later(number: int) -> int:
        return number

    kept = AsyncKept()
    task = async_task(log, body)
    found = await asyncio.gather(run_async(kept, task), run_async(kept, task))
    assert found == [["shared stream sync", 7]] * 2
    assert log.count("open shared") == 1
    assert sorted(log[1:]) == sorted(["open stream", "open sync", *ends()] * 2)
    assert await kept.aclose() is None
    assert log[-1] == "close shared"


@pytest.mark.parametrize("error", [ValueError("x"), StopAsyncIteration(1), SystemExit(1)])
async def test_an_error_passes_all_clean_ups_of_a_coroutine(log, error):
    async def body(_ctx, _values):
        raise error

    caught = None
    try:
        await run_async(AsyncKept(), async_task(log, body))
    except BaseException as raised:  # noqa: BLE001  any error
        caught = raised
    # A coroutine cannot let an end of an iteration pass; Python wraps it before it leaves the function.
    assert caught is error or caught.__cause__ is error
    assert log[-3:] == ends(f" {type(caught).__name__}")


async def test_a_cancel_reaches_the_code_and_not_its_clean_ups(log):
    stops, running = SimpleNamespace(run=0), asyncio.Event()

    async def body(_ctx, _values):
        running.set()
        await asyncio.sleep(1000)

    attempt = asyncio.create_task(run_async(AsyncKept(), async_task(log, body), stops))
    await running.wait()
    assert stops.run == 1
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert stops.run == 0
    assert log[-3:] == ends(" CancelledError")


@pytest.mark.parametrize("scope", ["job", "host"])
async def test_what_a_thread_opens_while_its_job_is_cancelled_is_closed(log, scope):
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(30)
        log.append("open")
        yield "slow"
        log.append("close")

    def seen():
        try:
            yield from slow()
        except asyncio.CancelledError:
            log.append("close")
            raise

    async def code(value: Annotated[str, Provide(seen, scope=scope)]):
        log.append("called")

    kept = AsyncKept()
    attempt = asyncio.create_task(
        AsyncScope(kept, task_of(code), Context.fake(), SimpleNamespace(run=0), 1).run({}, same)
    )
    await asyncio.to_thread(begun.wait, 30)
    attempt.cancel()
    await asyncio.sleep(0)
    assert not attempt.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert await kept.aclose() is None
    assert log == ["open", "close"]
