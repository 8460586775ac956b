"""The application of the system tests: jobs that work, jobs that misbehave, and the marks that they leave."""

import asyncio
import contextlib
import hashlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from heavylift import Cancelled, Context, Heavylift, Provide, Retry, exponential, fixed, provided
from heavylift.testing import poison

lift = Heavylift()


def mark(*words: object) -> None:
    """Append a line to the auditor's file: one write, so that lines of many processes never mix."""
    line = " ".join(str(word) for word in (*words, time.monotonic_ns()))
    file = os.open(os.environ["AUDIT_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode() + b"\n")
    finally:
        os.close(file)


def burn(seconds: float) -> None:
    """Take CPU time of this process."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@lift.task(retry=Retry(3, fixed(0.05)), crashes=20)
def work(ctx: Context, number: int, seconds: float) -> int:
    """Some CPU work, with a mark at its start and at its end."""
    mark("start", ctx.job_id, ctx.attempt)
    burn(seconds)
    mark("end", ctx.job_id, ctx.attempt)
    return number


@lift.task(retry=Retry(3, fixed(0.05)), crashes=20)
async def work_awaiting(ctx: Context, number: int, seconds: float) -> int:
    """The same beside others on a loop, which comes round in between."""
    mark("start", ctx.job_id, ctx.attempt)
    for _ in range(10):
        burn(seconds / 20)
        await asyncio.sleep(seconds / 20)
    mark("end", ctx.job_id, ctx.attempt)
    return number


@lift.task(retry=Retry(1))
def spin(ctx: Context) -> None:
    """Never ends by itself; its clean-up leaves a mark."""
    mark("start", ctx.job_id, ctx.attempt)
    try:
        while True:
            pass
    finally:
        mark("cleaned", ctx.job_id, ctx.attempt)


@lift.task(retry=Retry(1))
def backtrack(ctx: Context) -> None:
    """A regex that backtracks in C for longer than anybody waits; the engine looks at signals now and then."""
    mark("start", ctx.job_id, ctx.attempt)
    re.match(r"(a+)+$", "a" * 64 + "b")


@lift.task(retry=Retry(1))
def derive(ctx: Context) -> None:
    """One call into C for hours, which never looks at signals."""
    mark("start", ctx.job_id, ctx.attempt)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


@lift.task(retry=Retry(1))
def defy(ctx: Context) -> None:
    """Ignores TERM and catches everything."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mark("start", ctx.job_id, ctx.attempt)
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


class Swallower:
    """Python reports what `__del__` raises, and goes on."""

    def __del__(self) -> None:
        for _ in range(200):
            pass


@lift.task(retry=Retry(1))
def swallow(ctx: Context) -> None:
    """Spends its time in `__del__` methods, which swallow exceptions."""
    mark("start", ctx.job_id, ctx.attempt)
    while True:
        Swallower()


@lift.task(retry=Retry(1))
def family(ctx: Context, name: str) -> None:
    """Starts processes that leave its group and start others; `name` is in their command lines."""
    script = f"sleep 999 & setsid sh -c 'sleep 999; : {name}' & sleep 999; : {name}"
    subprocess.Popen(["setsid", "sh", "-c", script])
    subprocess.Popen(["sh", "-c", script], start_new_session=True)
    mark("start", ctx.job_id, ctx.attempt)
    while True:
        time.sleep(60)


@lift.task(retry=Retry(1, fixed(0.02)), crashes=3)
def brief(ctx: Context, seconds: float, harm: str = "", times: int = 0) -> int:
    """A short job with marks that name its process. Each of its first `times` attempts ends its host: by `harm`, an
    "exit" or a "kill".
    """
    words = ctx.job_id, ctx.attempt, os.getpid()
    try:
        mark("start", *words)
        burn(seconds)
        if ctx.attempt <= times:
            mark("harm", *words)
            if harm == "exit":
                os._exit(7)
            os.kill(os.getpid(), signal.SIGKILL)
        mark("end", *words)
    except Cancelled:
        mark("stop", *words)
        raise
    return ctx.attempt


@lift.task(retry=Retry(3, fixed(0.02)), crashes=3, **poison.LIMITS)
def poisoned(ctx: Context, kind: str, survived: str) -> None:
    """Harms whoever runs it."""
    mark("poisoned", ctx.job_id, ctx.attempt, kind)
    poison.take(kind, survived)


@lift.task(retry=Retry(1))
def broken(ctx: Context) -> None:
    """Fails."""
    mark("broken", ctx.job_id)
    message = "no luck"
    raise ValueError(message)


@lift.task(retry=Retry(2, exponential(600)))
async def unlucky() -> None:
    """Fails, and is tried again much later."""
    message = "no luck"
    raise ValueError(message)


@lift.task(crashes=1)
def dying() -> None:
    """Takes its host with it."""
    os.kill(os.getpid(), signal.SIGKILL)


@lift.task(retry=Retry(1), timeout=0.1, grace=0.1)
def slow() -> None:
    """Runs out of time."""
    time.sleep(60)


@lift.task(retry=Retry(1))
def told(job_id: str) -> None:
    """Follows a job that has failed: what it sees of it."""
    job = lift.sync.get(job_id).job
    mark("told", job_id, job.state.value, job.error.code if job.error else "")


@lift.task(retry=Retry(1))
def child(number: int) -> int:
    """What another job has submitted."""
    return number


@lift.task(retry=Retry(1))
def parent(ctx: Context, children: int) -> tuple[int, list[str], list[str]]:
    """Submits jobs; the host, their ids, and the threads that it has then."""
    ids = [ctx.submit(child, number).id for number in range(children)]
    return os.getpid(), ids, [thread.name for thread in threading.enumerate()]


def open_marked(ctx: Context) -> Iterator[str]:
    """Leaves marks when it is opened and closed."""
    mark("opened", ctx.job_id)
    try:
        yield "open"
    finally:
        mark("closed", ctx.job_id)


@lift.task(retry=Retry(1))
def hold(ctx: Context, *, held: Annotated[str, Provide(open_marked)] = provided) -> None:
    """Holds a dependency and a temporary folder until it is stopped."""
    ctx.on_exit(lambda: mark("exit", ctx.job_id))
    mark("start", ctx.job_id, ctx.tempdir, held)
    while True:
        time.sleep(0.01)


@lift.task(retry=Retry(1))
def talk(ctx: Context, folder: str) -> int:
    """When the file named by its attempt is there, it reports one thing of each kind and ends."""
    mark("start", ctx.job_id, ctx.attempt)
    while not Path(folder, str(ctx.attempt)).exists():
        time.sleep(0.005)
    ctx.progress(ctx.attempt, 10)
    ctx.checkpoint(ctx.attempt)
    ctx.log.info("attempt %d", ctx.attempt)
    mark("said", ctx.job_id, ctx.attempt)
    return ctx.attempt


@lift.task(retry=Retry(1))
async def talk_awaiting(ctx: Context, folder: str) -> int:
    """The same on a loop."""
    mark("start", ctx.job_id, ctx.attempt)
    while not Path(folder, str(ctx.attempt)).exists():
        await asyncio.sleep(0.005)
    mark("said", ctx.job_id, ctx.attempt)
    return ctx.attempt


@lift.task(retry=Retry(1))
def hold_the_interpreter(ctx: Context) -> int:
    """One call into C that lets no other thread of its process run, for longer than anybody waits."""
    mark("start", ctx.job_id, ctx.attempt)
    return sum(range(2**62))


@lift.task(retry=Retry(1), losses=3)
def kill_the_worker(ctx: Context, pid_file: str) -> None:
    """A job that means harm."""
    mark("start", ctx.job_id, ctx.attempt)
    while not Path(pid_file).exists():
        time.sleep(0.01)
    os.kill(int(Path(pid_file).read_text()), signal.SIGKILL)
    time.sleep(60)


@lift.task(retry=Retry(1))
def rest(ctx: Context, seconds: float) -> int:
    """Takes its time, and no CPU's."""
    mark("start", ctx.job_id, ctx.attempt)
    time.sleep(seconds)
    mark("end", ctx.job_id, ctx.attempt)
    return ctx.attempt


@lift.task(retry=Retry(1))
async def rest_awaiting(ctx: Context, seconds: float) -> int:
    """The same on a loop."""
    mark("start", ctx.job_id, ctx.attempt)
    await asyncio.sleep(seconds)
    mark("end", ctx.job_id, ctx.attempt)
    return ctx.attempt


@lift.task(retry=Retry(1), run_in="thread")
def hold_thread(ctx: Context) -> None:
    """In a thread until it is stopped."""
    mark("start", ctx.job_id, ctx.attempt)
    while True:
        time.sleep(0.01)


@lift.task(retry=Retry(1))
async def hold_loop(ctx: Context) -> None:
    """On a loop until it is stopped."""
    mark("start", ctx.job_id, ctx.attempt)
    await asyncio.sleep(3600)


def resumed_or_saved(ctx: Context) -> list[int] | None:
    """What an earlier attempt has saved, with the number of this one; else save it, for the next."""
    before = ctx.resume()
    if before is not None:
        return [before, ctx.attempt]
    ctx.step("greet", str.title, "hello")
    ctx.progress(3, 10)
    ctx.checkpoint(7)
    mark("start", ctx.job_id, ctx.attempt)
    return None


@lift.task(retry=Retry(3, fixed(0.05)))
def save(ctx: Context, how: str) -> list[int]:
    """Saves something in its first attempt, which ends in one way or another; the next one returns that."""
    found = resumed_or_saved(ctx)
    if found is not None:
        return found
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fail":
        message = "not yet"
        raise ValueError(message)
    try:
        while how == "native":
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
        while True:
            time.sleep(0.01)
    finally:
        ctx.checkpoint(8)


@lift.task(retry=Retry(3, fixed(0.05)))
async def save_awaiting(ctx: Context, how: str) -> list[int]:
    """The same on a loop."""
    found = resumed_or_saved(ctx)
    if found is not None:
        return found
    if how == "native":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    try:
        await asyncio.sleep(3600)
    finally:
        ctx.checkpoint(8)
    return []


LOOP = "echo begun; while true; do sleep 0.05; done"
lift.command("gentle_command", ["sh", "-c", f"trap 'sleep 0.1; exit 0' TERM; {LOOP}"], retry=Retry(3, fixed(0.05)))
lift.command("stubborn_command", ["sh", "-c", f"trap '' TERM; {LOOP}"], retry=Retry(3, fixed(0.05)))


@lift.task
def take_turns(ctx: Context, count: int, key: str = "crm", rate: str = "20/s") -> None:
    """Turns in a rate, one after the other, with a mark at each."""
    mark("begin", ctx.job_id, ctx.attempt, os.getppid())
    for _ in range(count):
        with ctx.limit(key, rate):
            mark("turn", ctx.job_id, ctx.attempt)


@lift.task
async def take_turns_awaiting(ctx: Context, count: int, key: str = "crm", rate: str = "20/s") -> None:
    """The same side by side."""
    mark("begin", ctx.job_id, ctx.attempt, os.getppid())

    async def turn() -> None:
        async with ctx.limit(key, rate):
            mark("turn", ctx.job_id, ctx.attempt)

    await asyncio.gather(*(turn() for _ in range(count)))


@lift.task(run_in="thread")
def take_turns_threaded(ctx: Context, count: int, key: str = "crm", rate: str = "20/s") -> None:
    """The same in a thread of a host that it shares."""
    mark("begin", ctx.job_id, ctx.attempt, os.getppid())
    for _ in range(count):
        ctx.limit(key, rate)
        mark("turn", ctx.job_id, ctx.attempt)
