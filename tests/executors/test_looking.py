"""Where the code of a run is, in real hosts: whatever it waits for goes on."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from applications import HEAD, pool_of, write

from heavylift.core.outcome import Cancelled, Succeeded, TimedOut
from heavylift.core.stack import Source
from heavylift.executor import Application, StopReason
from heavylift.executors import looking, stacks
from heavylift.executors.link import Nanny
from heavylift.executors.pools import Pools
from heavylift.settings import Settings
from heavylift.testing.executors.cases import ExecutorSuite, until
from heavylift.testing.executors.looks import look, look_at_native, look_until_over

give = ExecutorSuite().give
TASKS = """
    import asyncio, collections, ctypes, itertools, os, threading, time
    from heavylift.context import Context

    def in_kernel(ctx: Context, path: str) -> list[int]:
        # A call of C's own, which knows nothing of signals.
        libc = ctypes.CDLL(None, use_errno=True)
        pipe = os.open(path, os.O_RDWR)
        ctx.progress(message="begun")
        count = libc.read(pipe, ctypes.create_string_buffer(1), 1)
        return [count, ctypes.get_errno() if count < 0 else 0]

    def for_a_lock(ctx: Context, path: str) -> str:
        thread = threading.Thread(target=open_pipe, args=(path,), name="the reader")
        thread.start()
        ctx.progress(message="begun")
        thread.join()
        return "joined"

    def open_pipe(path: str) -> None:
        with open(path) as pipe:
            pipe.read()

    def in_sleep(ctx: Context, seconds: float) -> float:
        ctx.progress(message="begun")
        began = time.monotonic()
        time.sleep(seconds)
        return time.monotonic() - began

    def recurse(ctx: Context, path: str, depth: int) -> str:
        if depth:
            return recurse(ctx, path, depth - 1)
        ctx.progress(message="begun")
        while not os.path.exists(path):
            time.sleep(0.01)
        return "done"

    def there(ctx: Context, depth: int, dot: bool) -> None:
        return back(ctx, depth, dot)  # SMILES

    def back(ctx: Context, depth: int, dot: bool) -> None:
        if depth:
            return there(ctx, depth - 1, dot)  # SMILES
        ctx.progress(message="begun")
        if dot:
            time.sleep(600.)
        time.sleep(600)

    def outermost(ctx: Context) -> None:
        wide(ctx, 27)

    def wide(ctx: Context, depth: int) -> None:
        if depth:
            wide(ctx, depth - 1)
        else:
            ctx.progress(message="begun")
            collections.deque(itertools.count(), maxlen=0)

    # Of a name like this the handler in C writes each character by itself: it takes its time.
    wide.__code__ = wide.__code__.replace(co_filename=480 * "\N{LATIN SMALL LETTER E WITH ACUTE}")

    async def gathering(ctx: Context, path: str) -> str:
        ctx.progress(message="begun")
        await both(path)
        return "done"

    async def both(path: str) -> None:
        await asyncio.gather(until_there(path), until_there(path))

    async def until_there(path: str) -> None:
        while not os.path.exists(path):
            await asyncio.sleep(0.01)

    async def stepping(ctx: Context) -> None:
        ctx.progress(message="begun")
        while True:
            await asyncio.sleep(0)

    async def spinning(ctx: Context) -> None:
        ctx.progress(message="begun")
        await asyncio.sleep(0)
        while True:
            pass

    async def blocking(ctx: Context) -> None:
        await asyncio.sleep(0)
        ctx.progress(message="begun")
        collections.deque(itertools.count(), maxlen=0)

    for function in (in_kernel, for_a_lock, in_sleep, recurse, there, outermost):
        lift.task(function)
    for function in (gathering, stepping, spinning, blocking):
        lift.task(function)
""".replace("SMILES", 1000 * "\N{SLIGHTLY SMILING FACE}")


@pytest.fixture
async def pool(tmp_path):
    write(tmp_path, "looked_at", TASKS)
    nanny = await Nanny.start(Application("looked_at", "lift", (), (str(tmp_path),)))
    pool = Pools(nanny, Settings.load({}, concurrency=2))
    await pool.start()
    yield pool
    await pool.close(0.0)


def calls(text):
    return [line.rpartition(" in ")[2] for line in text.splitlines() if "File" in line]


def in_loop(pool, task, **arguments):
    return give(pool, task, job={"run_in": "loop"}, **arguments)


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


async def test_a_call_of_c_that_waits_in_the_kernel_is_not_interrupted(pool, pipe):
    attempt = give(pool, "in_kernel", path=str(pipe))
    await attempt.begun()
    found = await look_at_native(pool, attempt)
    assert found.text.rstrip().endswith("in in_kernel")
    assert found.process.state == "S"
    assert not attempt.future.done()
    pipe.write_text("x")
    outcome = await attempt.outcome()
    assert outcome.result == b"[1,0]", "EINTR is 4"


async def test_who_waits_for_a_lock_answers_with_all_threads_and_waits_on(pool, pipe):
    attempt = give(pool, "for_a_lock", path=str(pipe))
    await attempt.begun()
    async with asyncio.timeout(30):
        while "join()" not in (found := await look(pool, attempt)).text:
            pass
    assert found.source is Source.INTERPRETER
    of_main, of_reader = found.text.split("\nThread the reader:\n")
    assert "in for_a_lock" in of_main
    assert "in open_pipe" in of_reader
    pipe.write_text("x")
    assert (await attempt.outcome()).result == b'"joined"'


async def test_a_sleep_takes_as_long_as_it_would_have(pool):
    attempt = give(pool, "in_sleep", seconds=1.0)
    await attempt.begun()
    assert len(await look_until_over(pool, attempt)) > 3
    assert float((await attempt.outcome()).result) >= 1.0


async def test_a_deep_stack_is_cut_short(pool, tmp_path):
    attempt = give(pool, "recurse", path=str(tmp_path / "go"), depth=900)
    await attempt.begun()
    found = await look(pool, attempt)
    # So near to the end of the stack, it depends on the interpreter who can still answer.
    assert "in recurse" in found.text
    assert len(found.text) < 100_000
    (tmp_path / "go").touch()
    assert (await attempt.outcome()).result == b'"done"'


@pytest.mark.parametrize("dot", [False, True])  # of two places a byte apart, one is within a character
async def test_a_deep_stack_is_cut_within_a_character(pool, dot):
    attempt = give(pool, "there", depth=20, dot=dot)
    await attempt.begun()
    found = await look(pool, attempt)
    assert found.source is Source.INTERPRETER
    assert len(found.text) > 10_000
    pool.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
    assert isinstance(await attempt.outcome(), Cancelled)


def host_of(pool, attempt):
    [host] = [run.host for run in pool.exclusive._runs.values() if run.job is attempt.job]
    return host


async def lose_the_cpu(host):
    """Stop a host for a moment, while it writes where it is, as a busy machine may do."""
    os.kill(host.pid, signal.SIGSTOP)
    try:
        while looking.of_kernel(host.pid).state != "T":
            pass
        before = stacks.dump(host._stacks)
        await asyncio.sleep(1.0)  # in which nobody takes the half for the whole, nor kills it
        assert len(stacks.dump(host._stacks)) >= len(before)
    finally:
        os.kill(host.pid, signal.SIGCONT)


async def test_a_stack_that_is_not_whole_yet_is_waited_for(pool):
    attempt = give(pool, "outermost")
    await attempt.begun()
    await look_at_native(pool, attempt)
    host, looks = host_of(pool, attempt), asyncio.ensure_future(look(pool, attempt))
    await asyncio.sleep(0)  # it has asked
    while not stacks.dump(host._stacks):
        await asyncio.sleep(0)
    await lose_the_cpu(host)
    found = await looks
    assert (found.source, found.text.count("in wide")) == (Source.SIGNAL, 28)
    assert found.text.splitlines()[0].endswith("in outermost")
    pool.stop(attempt.job.id, 1, StopReason.CANCEL, 0.0, force=True)
    await attempt.outcome()


@pytest.mark.parametrize("looked_at", [False, True])
async def test_who_is_killed_says_all_of_its_stack_before(pool, looked_at):
    attempt = give(pool, "outermost", job={"timeout": 600})
    await attempt.begun()
    await look_at_native(pool, attempt)
    host = host_of(pool, attempt)
    stacks.clear(host._stacks)
    pool.stop(attempt.job.id, 1, StopReason.TIMEOUT, 0.0)
    while not stacks.dump(host._stacks):
        pass
    looks = [asyncio.ensure_future(pool.look(attempt.job.id, 1))] if looked_at else []
    await lose_the_cpu(host)
    outcome = await attempt.outcome()
    assert isinstance(outcome, TimedOut)
    assert outcome.killed
    assert outcome.error.traceback.count("in wide") == 28
    assert outcome.error.traceback.endswith("in outermost")
    await asyncio.gather(*looks)


async def test_what_a_coroutine_awaits_is_followed_into_its_tasks(pool, tmp_path):
    attempt = in_loop(pool, "gathering", path=str(tmp_path / "go"))
    await attempt.begun()
    own, tasks = "", [""]
    async with asyncio.timeout(30):
        while calls(own) != ["gathering", "both"] or len(tasks) < 2:  # it is still on its way there
            own, *tasks = (await look(pool, attempt)).text.split("\nTask ")
    assert ["in until_there" in one for one in tasks] == [True, True]
    (tmp_path / "go").touch()
    assert isinstance(await attempt.outcome(), Succeeded)


async def test_a_coroutine_is_found_also_while_the_loop_begins_or_ends_its_step(pool):
    attempt = in_loop(pool, "stepping")
    await attempt.begun()
    found = [await look(pool, attempt) for _ in range(40)]
    seen = [one for one in found if "in stepping" in one.text]
    assert len(seen) > 35, "all, unless one met the instant in which its own frame was entered"
    assert not any("call_soon" in one.text for one in found)
    pool.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
    await attempt.outcome()


async def test_of_a_busy_loop_each_coroutine_says_where_it_is_itself(pool, tmp_path):
    waiting = in_loop(pool, "gathering", path=str(tmp_path / "go"))
    await waiting.begun()
    spinning = in_loop(pool, "spinning")
    await spinning.begun()
    async with asyncio.timeout(30):
        while "while True" not in (found := await look(pool, spinning)).text:
            pass
    assert found.source is Source.INTERPRETER
    other = await look(pool, waiting)
    assert "in both" in other.text
    assert "spinning" not in other.text
    pool.stop(spinning.job.id, 1, StopReason.CANCEL, 0.0)
    await spinning.outcome()


async def test_of_a_loop_in_native_code_it_is_said_whose_code_that_is(pool, tmp_path):
    waiting = in_loop(pool, "gathering", path=str(tmp_path / "go"))
    await waiting.begun()
    blocking = in_loop(pool, "blocking")
    await blocking.begun()
    culprit, victim = await look_at_native(pool, blocking), await look_at_native(pool, waiting)
    assert culprit.text.rstrip().endswith("in blocking")
    assert victim.text == "Another job keeps its loop busy:\n" + culprit.text
    pool.stop(blocking.job.id, 1, StopReason.CANCEL, 0.0)
    await blocking.outcome()


async def test_a_stopped_process_says_nothing_and_is_said_to_be_stopped(pool, tmp_path):
    attempt = give(pool, "recurse", path=str(tmp_path / "go"), depth=1)
    await attempt.begun()
    before = await look(pool, attempt)
    os.kill(before.process.pid, signal.SIGSTOP)
    await until(lambda: Path(f"/proc/{before.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    found = await look(pool, attempt)
    assert (found.source, found.text, found.process.state) == (Source.NONE, "", "T")
    os.kill(before.process.pid, signal.SIGCONT)
    assert (await look(pool, attempt)).source is Source.INTERPRETER
    (tmp_path / "go").touch()
    assert isinstance(await attempt.outcome(), Succeeded)


async def test_what_waits_behind_another_has_not_begun(pool, tmp_path):
    first = [give(pool, "recurse", path=str(tmp_path / "go"), depth=1) for _ in range(2)]
    for attempt in first:
        await attempt.begun()
    waiting = give(pool, "in_sleep", seconds=0.0)
    found = await look(pool, waiting)
    assert (found.source, found.text, found.process) == (Source.NONE, "", None)
    (tmp_path / "go").touch()
    for attempt in (*first, waiting):
        assert isinstance(await attempt.outcome(), Succeeded)


THREADS = """
import sys, threading
def spin():
    while going: pass
going = True
threading.Thread(target=spin).start()
print(flush=True)
sys.stdin.readline()
going = False
print(flush=True)
sys.stdin.readline()
"""


async def test_a_process_is_still_when_all_its_threads_are():
    with subprocess.Popen(
        [sys.executable, "-c", THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        await until(lambda: looking.of_kernel(process.pid).state == "S")  # its main thread, which reads
        assert looking.wants_cpu(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        await until(lambda: not looking.wants_cpu(process.pid))
        process.stdin.close()
    assert not looking.wants_cpu(process.pid)


COMMANDS = r"""
lift.command("nested", ["sh", "-c", "echo begun; sleep 996; true"])
"""


async def test_of_a_command_it_is_said_which_processes_run(tmp_path):
    head = "from heavylift import Heavylift\nlift = Heavylift('memory://')\n"
    write(tmp_path, "commands_looked_at", COMMANDS, head=head)
    pool = await pool_of(tmp_path, "commands_looked_at")
    await pool.start()
    try:
        attempt = give(pool, "nested")
        await attempt.begun()
        async with asyncio.timeout(30):
            while len((found := await look(pool, attempt)).children) < 2:
                pass
        assert (found.source, found.text) == (Source.INTERPRETER, "")
        assert found.process.command == "heavylift-host"
        assert [child.command for child in found.children] == ["sh -c echo begun; sleep 996; true", "sleep 996"]
        pool.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
        outcome = await attempt.outcome()
        assert isinstance(outcome, Cancelled)
        assert not outcome.killed
    finally:
        await pool.close(0.0)


LEFT = "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()\n"


async def test_hosts_that_start_afresh_are_found_in_too(tmp_path):
    write(tmp_path, "threaded", TASKS, head=HEAD + LEFT)
    pool = await pool_of(tmp_path, "threaded")
    await pool.start()
    try:
        assert not pool.nanny.forks
        attempt = give(pool, "recurse", path=str(tmp_path / "go"), depth=1)
        await attempt.begun()
        found = await look(pool, attempt)
        assert (found.source, found.text.count("in recurse")) == (Source.INTERPRETER, 2)
        (tmp_path / "go").touch()
        assert isinstance(await attempt.outcome(), Succeeded)
    finally:
        await pool.close(0.0)


async def test_looks_at_the_borders_of_short_runs_cost_no_run(pool):
    """One may come before the code, in it, behind it, and in that of the next run."""
    seen = 0
    for _ in range(50):
        attempts = [give(pool, "in_sleep", seconds=0.001) for _ in range(3)]
        seen += sum(map(len, await asyncio.gather(*(look_until_over(pool, attempt) for attempt in attempts))))
        for attempt in attempts:
            assert isinstance(await attempt.outcome(), Succeeded)
    assert seen > 0
