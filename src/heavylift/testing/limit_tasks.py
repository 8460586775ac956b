"""The tasks of ExecutorContract that meet limits: those of their own, and those of their machine."""

# ruff: noqa: EM101, TRY003  hostile code, on purpose

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heavylift.context import Context


def allocate_in_children(size: int, count: int, shared: bool) -> int:  # noqa: FBT001  given by name
    """Start processes that have so much memory each: `shared` with this one, or of their own."""
    memory = bytearray(b"x") * (size if shared else 1)
    for _ in range(count):
        if os.fork() == 0:
            memory = memory if shared else memory * size
            time.sleep(1000)
    time.sleep(0.5 if shared else 1000)
    return len(memory)


def keep_memory(size: int) -> int:
    """Leave so many bytes behind."""
    _kept.append(bytearray(b"x") * size)
    return os.getpid()


_kept: list[bytearray] = []


def burn_in_child() -> None:
    """Have a process that is never waited for take CPU time."""
    if os.fork() == 0:
        while True:
            pass
    time.sleep(1000)


def clean_up_largely(size: int) -> None:
    """Take CPU time until that is too much; then, to clean up, so many bytes."""
    try:
        while True:
            pass
    finally:
        keep_memory(size)
        time.sleep(1000)


def take_address_space(size: int) -> int:
    """Map so many bytes, in which nothing is ever written."""
    return len(mmap.mmap(-1, size))


def fail_to_allocate(size: int) -> None:
    """Say in one's own words that there is not enough memory."""
    try:
        bytearray(size)
    except MemoryError as error:
        raise RuntimeError("the table is too large") from error


def open_files(count: int) -> int:
    """Open so many descriptors, and keep them."""
    _kept_open.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(count))
    return os.getpid()


_kept_open: list[int] = []


def niceness() -> list[int]:
    """The process, and its niceness."""
    return [os.getpid(), os.getpriority(os.PRIO_PROCESS, 0)]


def limits() -> list[int]:
    """The soft limits of address space and open files."""
    return [resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE)]


def bomb(path: str, how: str, rounds: int) -> None:
    """Fork, and have each fork do so after twenty milliseconds, for so many rounds: then there are 2 ** rounds of them.
    Whoever is not killed says so in the file at `path`. In "sessions" each leaves its group; in "orphans" this process
    is gone when they begin.
    """
    end = time.monotonic() + 10
    if how == "orphans" and os.fork():
        os._exit(4)
    while time.monotonic() < end:
        rounds -= 1
        if rounds >= 0 and os.fork() == 0 and how != "group":
            os.setsid()
        time.sleep(0.02)
    Path(path).write_text("survived")
    os._exit(0)


def exhaust(what: str) -> None:
    """Use up what there is of descriptors, or of the stack."""
    if what == "descriptors":
        _use_up_descriptors()
    sys.setrecursionlimit(2**31 - 1)

    deeper()


def _use_up_descriptors() -> None:
    while True:
        _kept_open.append(os.open(os.devnull, os.O_RDONLY))


def keep_descriptors(ctx: Context) -> None:
    """Use up what there is of descriptors, and keep them."""
    try:
        _use_up_descriptors()
    except OSError as error:
        ctx.progress(message=str(error))
    while True:
        time.sleep(1)


def deeper() -> None:
    """Call itself through C, each time with a stack frame of C's."""
    ctypes.CFUNCTYPE(None)(deeper)()


def raise_large(size: int) -> None:
    """Raise an exception whose text is as long as that."""
    raise ValueError("x" * size)


def flood(ctx: Context, what: str, calls: int, size: int = 100) -> None:
    """Report progress, write to the log, or to standard output, as fast as it goes."""
    text = "x" * size
    for number in range(1, calls + 1):
        match what:
            case "progress":
                ctx.progress(number, calls)
            case "log":
                ctx.log.info(text)
            case "output":
                print(text)  # noqa: T201  it is looked for
    if what == "output":
        print("last words", flush=True)  # noqa: T201
        os._exit(3)


def say(text: str) -> None:
    """Print."""
    print(text)  # noqa: T201  it is looked for


def rename_thread(name: str) -> None:
    """Give the thread that runs this another name."""
    threading.current_thread().name = name


def lose_child() -> None:
    """Have a fork that dies by a fault, and end in another way."""
    child = os.fork()
    if child == 0:
        ctypes.string_at(0)
    os.waitpid(child, 0)
    os._exit(3)


TASKS: tuple[Callable[..., Any], ...] = (
    allocate_in_children,
    burn_in_child,
    take_address_space,
    fail_to_allocate,
    open_files,
    niceness,
    limits,
    bomb,
    exhaust,
    keep_descriptors,
    raise_large,
    flood,
    keep_memory,
    clean_up_largely,
    lose_child,
    rename_thread,
    say,
)
