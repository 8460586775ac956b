"""The tasks of ExecutorContract: one for each way in which code can behave. `application` is all of them.

An executor under test runs the application `heavylift.testing.executor_tasks:application`.
"""

# ruff: noqa: EM101, S603, S607, TRY003  hostile code, on purpose

from __future__ import annotations

import collections
import ctypes
import itertools
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from heavylift.context import Context
from heavylift.core.errors import GiveUp, RetryLater, Snooze
from heavylift.core.options import Options
from heavylift.core.retry import Retry
from heavylift.core.task import Task, define
from heavylift.testing import keeping_tasks, limit_tasks, providing_tasks, turn_tasks
from heavylift.testing.swallowing import LOOPS


class Application:
    """What executors need of a `Heavylift`, without a store."""

    def __init__(self) -> None:
        self.registry: dict[str, Task] = {}
        self.store_url = "memory://"
        self.given_settings: dict[str, Any] = {"concurrency": 3}
        self.host_start_hooks: list[Callable[[], None]] = []
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = {}

    def task(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """Register a function under its own name."""
        self.registry[function.__name__] = define(function, None, Options().using(**options), Context)
        return function


application = Application()
task = application.task
for function in (*keeping_tasks.TASKS, *limit_tasks.TASKS, *providing_tasks.TASKS, *turn_tasks.TASKS):
    task(function)


# --- what ends by itself -------------------------------------------------------------------------------------


@task
def give(value: Any = None) -> Any:
    """The value."""
    return value


@task
def add(a: int, b: int = 2) -> int:
    """With types."""
    return a + b


@task
def burn(seconds: float) -> None:
    """Take CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@task
def nap(seconds: float) -> None:
    """Take time."""
    time.sleep(seconds)


@task
def where(ctx: Context) -> list[int]:
    """The process, and the number of the attempt."""
    return [os.getpid(), ctx.attempt]


@task
def wait_for(ctx: Context, path: str, size: int = 0) -> str:
    """End when a file is there; the result has `size` bytes more."""
    ctx.progress(message="waiting")
    while not Path(path).exists():
        time.sleep(0.005)
    return "found" + size * "d"


# --- what fails ----------------------------------------------------------------------------------------------


class _Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")

    __repr__ = __str__


def _policy(failures: int, error: BaseException) -> float | None:
    if "broken" in str(error):
        raise RuntimeError("the policy broke")
    return None if "hopeless" in str(error) else 7.0 * failures


def _raise(message: str) -> NoReturn:
    raise ValueError(message)


@task
def fail(message: str) -> None:
    """Raise ValueError."""
    _raise(message)


def fail_by_policy(message: str) -> None:
    """Raise ValueError; a function of the task decides what follows."""
    _raise(message)


def fail_for_good() -> None:
    """Raise what is not retried."""
    raise KeyError("for good")


task(fail_by_policy, retry=Retry(5, _policy))
task(fail_for_good, retry=Retry(5, but=(LookupError,)))


@task
def raise_hostile() -> None:
    """Raise an exception that cannot be shown."""
    raise _Hostile


@task
def wish(kind: str) -> None:
    """Raise one of the wishes."""
    raise {"later": RetryLater("3s", "busy"), "never": GiveUp("no use"), "snooze": Snooze("1m")}[kind]


@task
def leave(how: str) -> None:
    """End the interpreter, or try to."""
    if how == "interrupt":
        raise KeyboardInterrupt
    sys.exit("bye")


@task
def recurse() -> None:
    """Run out of stack."""
    recurse()


@task
def give_odd(what: str) -> Any:
    """Return what is no JSON."""
    odd: dict[str, Callable[[], Any]] = {
        "object": object,
        "nan": lambda: float("nan"),
        "generator": lambda: (number for number in range(3)),
        "coroutine": _coroutine,
        "surrogate": lambda: "\ud800",
        "cycle": _cycle,
    }
    return odd[what]()


async def _coroutine() -> None:
    pass


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


@task
def give_large(size: int) -> str:
    """Return much."""
    return "x" * size


# --- what reports --------------------------------------------------------------------------------------------


@task
def count(ctx: Context, to: int, pause: float = 0.0) -> int:
    """Report each step."""
    for number in range(1, to + 1):
        ctx.progress(number, to)
        time.sleep(pause)
    return to


@task
def remember(ctx: Context, values: list[Any]) -> Any:
    """Save each value; return what was there at the start."""
    before = ctx.resume("nothing")
    for value in values:
        ctx.checkpoint(value)
    return before


@task
def write(ctx: Context, lines: int, size: int = 10, then_wait: bool = False) -> None:  # noqa: FBT001, FBT002  by name
    """Write lines to the log."""
    for number in range(lines):
        ctx.log.info("%s", f"{number:05d}".ljust(size, "."))
    while then_wait:
        time.sleep(0.01)


@task
def mix(ctx: Context, rounds: int) -> None:
    """Report all kinds in turn."""
    for number in range(rounds):
        ctx.log.info("line %d", number)
        ctx.progress(number)
        ctx.checkpoint(number)


# --- what goes on until it is stopped --------------------------------------------------------------------------


@task
def loop(ctx: Context, how: str, path: str) -> Any:
    """Go on for ever in one of many ways; a file at `path` tells that the clean-up ran."""
    return _LOOPS[how](ctx, Path(path))


# Each tells that it has begun where a stop finds it ready.


def _spin(ctx: Context, path: Path) -> None:
    try:
        ctx.progress(message="begun")
        while True:
            pass
    finally:
        path.write_text("cleaned up")


def _spin_in_a_line(ctx: Context, path: Path) -> None:
    frame = sys._getframe()  # noqa: SLF001  its line is what the other thread waits for
    loop_line = frame.f_lineno + 3
    threading.Thread(target=_tell_when_at, args=(ctx, frame, loop_line), daemon=True).start()
    try:
        while True: pass  # fmt: skip  # noqa: E701  the loop is one instruction, and the first in the `try`
    finally:
        path.write_text("cleaned up")


def _tell_when_at(ctx: Context, frame: FrameType, line: int) -> None:
    while frame.f_lineno != line:
        time.sleep(0)
    ctx.progress(message="begun")


def _sleep(ctx: Context, path: Path) -> None:
    try:
        ctx.progress(message="begun")
        time.sleep(1000)
    finally:
        time.sleep(0.1)  # more than one stop signal comes meanwhile; none may end this
        path.write_text("cleaned up")


def _poll(ctx: Context, path: Path) -> str:
    ctx.progress(message="begun")
    while not ctx.cancelled:
        pass
    path.write_text("cleaned up")
    return "ended by itself"


def _report(ctx: Context, path: Path) -> None:
    try:
        for number in itertools.count():
            ctx.progress(number)
            ctx.log.info("n")
    finally:
        path.write_text("cleaned up")


def _translate(ctx: Context, _path: Path) -> None:
    try:
        ctx.progress(message="begun")
        while True:
            pass
    except BaseException as error:
        raise RuntimeError("translated") from error


def _catch_once(ctx: Context, path: Path) -> str:
    try:
        ctx.progress(message="begun")
        while True:
            pass
    except BaseException:  # noqa: BLE001  the very thing to be tested
        time.sleep(0.1)
        path.write_text("cleaned up")
    return "caught"


def _stubborn(ctx: Context, path: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            ctx.progress(message="begun")
            while True:
                pass
        except BaseException:  # noqa: BLE001  the very thing to be tested
            path.write_text("caught")


def _native(ctx: Context, _path: Path) -> None:
    while True:
        try:
            ctx.progress(message="begun")
            collections.deque(itertools.count(), maxlen=0)  # in C, and never looks for signals
        except BaseException:  # noqa: BLE001, S110  the stop came before that
            pass


_LOOPS: dict[str, Callable[[Context, Path], Any]] = {
    "spin": _spin,
    "spin in a line": _spin_in_a_line,
    "sleep": _sleep,
    "poll": _poll,
    "report": _report,
    "translate": _translate,
    "catch once": _catch_once,
    "stubborn": _stubborn,
    "native": _native,
    **LOOPS,
}


# --- what harms its process ------------------------------------------------------------------------------------


@task
def die(how: str) -> None:
    """End the process in the middle."""
    print("last words", flush=True)  # noqa: T201  it is looked for
    match how:
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()


@task
def close_descriptors(first: int, last: int) -> str:
    """Close what was not opened here."""
    os.closerange(first, last)
    return "closed"


_CHANGES: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "alarm": lambda: signal.setitimer(signal.ITIMER_REAL, 1000),
    "closed": lambda: (sys.stdout.close(), sys.stderr.close()),
    "directory": lambda: os.chdir("/"),
    "handler": lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
    "hook": lambda: setattr(sys, "unraisablehook", print),
    "limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
    "logging": lambda: logging.disable(logging.CRITICAL),
    "mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]),
    "output": lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 1),
    "stop signal": lambda: signal.signal(signal.SIGRTMIN + 3, signal.SIG_IGN),
    "thread": threading.Thread(target=time.sleep, args=(1000,)).start,
    "trace": lambda: sys.settrace(lambda *_: None),
    "umask": lambda: os.umask(0o11),
}


@task
def change(what: str, seconds: float) -> int:
    """Leave something changed behind, after so many seconds."""
    time.sleep(seconds)
    _CHANGES[what]()
    return os.getpid()


@task
def allocate(size: int) -> None:
    """Take memory and keep it until the end."""
    taken = bytearray(size)
    taken[::4096] = b"x" * len(taken[::4096])
    time.sleep(1000)


@task
def fork_and_return() -> int:
    """Come back twice."""
    os.fork()
    return os.getpid()


@task
def start_children(ctx: Context, path: str, then_wait: bool) -> None:  # noqa: FBT001  given by name
    """Start processes that start others, out of the group and the session; their pids go into `path`."""
    code = (
        "import os, sys, time\n"
        "os.setsid()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    os.fork()\n"
        "os.write(int(sys.argv[1]), f'{os.getpid()}\\n'.encode())\n"
        "time.sleep(999)\n"
    )
    with Path(path).open("ab") as file:
        subprocess.Popen([sys.executable, "-c", code, str(file.fileno())], pass_fds=[file.fileno()])
        subprocess.Popen(["sleep", "999"])
    while len(Path(path).read_text().splitlines()) < 3:
        time.sleep(0.005)
    ctx.progress(message="begun")
    while then_wait:
        time.sleep(0.01)
