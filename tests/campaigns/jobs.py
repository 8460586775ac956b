"""The application of the campaigns. Each job writes its own lines, which are all that the auditor believes."""

import asyncio
import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

from heavylift import Context, Heavylift, Retry, fixed

lift = Heavylift()

QUICK = Retry(3, fixed(0.05))


def mark(ctx: Context, kind: str) -> None:
    """Append `kind job attempt pid nanoseconds` to the auditor's file: one write, so that lines never mix."""
    line = f"{kind} {ctx.job_id} {ctx.attempt} {os.getpid()} {time.monotonic_ns()}\n"
    file = os.open(os.environ["AUDIT_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def burn(seconds: float) -> None:
    """Take CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@lift.task(retry=QUICK)
def work(ctx: Context, number: int, seconds: float) -> int:
    """CPU work of some steps, each of which is kept; a later attempt does only what is left."""
    mark(ctx, "start")
    done = ctx.resume(0)
    for step in range(done, 4):
        burn(seconds / 4)
        ctx.progress(step + 1, 4)
        ctx.checkpoint(step + 1)
    mark(ctx, "end")
    return number


@lift.task(retry=QUICK)
async def work_awaiting(ctx: Context, number: int, seconds: float) -> int:
    """The same on a loop, beside others."""
    mark(ctx, "start")
    for _ in range(4):
        burn(seconds / 8)
        await asyncio.sleep(seconds / 8)
    mark(ctx, "end")
    return number


@lift.task(retry=QUICK)
def linger(ctx: Context, number: int, seconds: float) -> int:
    """Waits for so long in all, in steps that are kept."""
    mark(ctx, "start")
    for step in range(ctx.resume(0), 10):
        time.sleep(seconds / 10)
        ctx.checkpoint(step + 1)
    mark(ctx, "end")
    return number


@lift.task(retry=QUICK)
async def linger_awaiting(ctx: Context, number: int, seconds: float) -> int:
    """The same on a loop."""
    mark(ctx, "start")
    for step in range(ctx.resume(0), 10):
        await asyncio.sleep(seconds / 10)
        ctx.checkpoint(step + 1)
    mark(ctx, "end")
    return number


@lift.task
def pass_by() -> None:
    """Nothing: when it was started is in the store."""


@lift.task(retry=QUICK)
def fail_twice(ctx: Context, number: int) -> int:
    """Raises in its first two attempts that begin."""
    mark(ctx, "start")
    if ctx.failures < 2:
        message = "not yet"
        raise ValueError(message)
    mark(ctx, "end")
    return number


@lift.task(retry=QUICK)
def give_up(ctx: Context) -> None:
    """Raises whenever it runs."""
    mark(ctx, "start")
    message = "never"
    raise ValueError(message)


@lift.task(retry=QUICK, crashes=3)
def crash(ctx: Context) -> None:
    """Ends its host whenever it runs."""
    mark(ctx, "start")
    os._exit(7)


@lift.task(retry=Retry(1))
def family(ctx: Context) -> None:
    """Has children in sessions of their own, and never ends."""
    for _ in range(2):
        subprocess.Popen(["sh", "-c", "sleep 999 & sleep 999"], start_new_session=True)
    mark(ctx, "start")
    while True:
        time.sleep(60)


# --- what never ends -------------------------------------------------------------------------------------------------


class Swallower:
    """Python reports what `__del__` raises, and goes on."""

    def __del__(self) -> None:
        for _ in range(200):
            pass


def _spin() -> None:
    while True:
        pass


def _hold_the_lock() -> None:
    sum(range(10**15))  # one call into C that never gives the interpreter up


def _call_c() -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


def _backtrack() -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")


def _catch_all() -> None:
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


def _ignore_term() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def _wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _swallow() -> None:
    while True:
        Swallower()


def _start_others() -> None:
    subprocess.run([sys.executable, "-c", "import time; time.sleep(999)"], start_new_session=True, check=False)


RUNAWAYS = {
    "a loop": _spin,
    "C that holds the interpreter": _hold_the_lock,
    "C that leaves it": _call_c,
    "a regex": _backtrack,
    "a loop that catches everything": _catch_all,
    "a sleeper that ignores TERM": _ignore_term,
    "a deadlock": _wait_for_a_lock,
    "__del__ that swallows": _swallow,
    "a child that it waits for": _start_others,
}


@lift.task(retry=Retry(1))
def run_away(ctx: Context, kind: str) -> None:
    """Never ends by itself, in one of many ways; in a process of its own or in a thread."""
    mark(ctx, "start")
    RUNAWAYS[kind]()


@lift.task(retry=Retry(1))
async def run_away_awaiting(ctx: Context, kind: str) -> None:
    """The same on a loop, which it blocks."""
    mark(ctx, "start")
    RUNAWAYS[kind]()
