"""The tasks of ExecutorContract that have dependencies, clean-ups, steps and shields. They leave marks in the file that
their job's label `path` names.
"""

# ruff: noqa: EM101, S607, TRY003  code as users write it

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from heavylift.context import Context
from heavylift.core.dependency import Provide


def mark(ctx: Context, words: str) -> None:
    """Leave a mark."""
    file = os.open(ctx.labels["path"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{words}\n".encode())
    finally:
        os.close(file)


def engine() -> Iterator[list[int]]:
    """Once in each host; it has a thread and a child of its own."""
    wake = threading.Event()
    thread = threading.Thread(target=wake.wait, name="engine", daemon=True)
    thread.start()
    child = subprocess.Popen(["sleep", "999"])
    made = [os.getpid(), child.pid]
    yield made
    child.kill()
    child.wait()
    wake.set()
    with Path(os.environ.get("ENGINE_MARKS", os.devnull)).open("a") as file:
        file.write(f"closed {made[0]}\n")


def connection(ctx: Context) -> Iterator[str]:
    """Tells what it sees."""
    mark(ctx, "open connection")
    try:
        yield "connection"
    except BaseException as error:
        mark(ctx, f"rollback {type(error).__name__}")
        raise
    else:
        mark(ctx, "commit")
    finally:
        mark(ctx, "close connection")


def session(ctx: Context, base: Annotated[str, Provide(connection)], name: str = "session") -> Iterator[str]:
    """Stands on another one, and swallows what it sees."""
    mark(ctx, "open session")
    try:
        yield f"{name} on {base}"
    except ValueError:
        mark(ctx, "swallow")
    finally:
        mark(ctx, "close session")


def plain(base: Annotated[str, Provide(connection)]) -> str:
    """A function without a clean-up; `connection` is the same as that of others."""
    return f"plain on {base}"


Session = Annotated[str, Provide(session)]


def provided(number: int, db: Session, other: Annotated[str, Provide(plain)], how: str = "return") -> Any:
    """With dependencies, and without a Context of its own."""
    if how == "raise":
        raise ValueError("it was to be raised")
    if how == "refuse":
        return object()
    while how == "spin":
        time.sleep(0)
    return [number, db, other]


def failing(ctx: Context) -> Iterator[str]:
    """Its clean-up raises."""
    try:
        yield "failing"
    finally:
        mark(ctx, "fail")
        raise LookupError("the clean-up broke")


def slow_to_close(ctx: Context) -> Iterator[str]:
    """Takes its time, in which more than one stop signal comes."""
    try:
        yield "slow"
    finally:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        mark(ctx, "closed slowly")


def never(_ctx: Context) -> Iterator[str]:
    """Yields nothing."""
    yield from ()


def twice() -> Iterator[int]:
    """Yields a second value."""
    yield 1
    yield 2


def break_clean_up(
    base: Annotated[str, Provide(connection)],
    broken: Annotated[str, Provide(failing)],
    how: str = "return",
) -> list[str]:
    """One of two clean-ups raises."""
    if how == "raise":
        raise ValueError("the code broke")
    return [base, broken]


def open_never(base: Annotated[str, Provide(connection)], value: Annotated[str, Provide(never)]) -> list[str]:
    """A provider gives nothing."""
    return [base, value]


def open_twice(base: Annotated[str, Provide(connection)], value: Annotated[int, Provide(twice)]) -> Any:
    """A provider gives two values."""
    return [base, value]


def spin_between(
    ctx: Context, base: Annotated[str, Provide(connection)], slow: Annotated[str, Provide(slow_to_close)]
) -> None:
    """Runs until it is stopped."""
    ctx.on_exit(lambda: mark(ctx, "exit"))
    ctx.progress(message=f"begun {base} {slow}")
    while True:
        pass


def opens_for_ever(ctx: Context, base: Annotated[str, Provide(connection)]) -> Iterator[str]:
    """Opens until it is stopped."""
    try:
        ctx.progress(message="begun")
        while base:
            pass
    finally:
        mark(ctx, "stopped while opening")
    yield base


def wait_to_open(ctx: Context, value: Annotated[str, Provide(opens_for_ever)]) -> str:
    """Never begins."""
    mark(ctx, "run")
    return value


def use_engine(made: Annotated[list[int], Provide(engine, scope="host")], seconds: float = 0.0) -> list[int]:
    """What the host keeps, and the host."""
    time.sleep(seconds)
    return [os.getpid(), *made]


def exits(ctx: Context, base: Annotated[str, Provide(connection)], how: str = "return") -> str:
    """Clean-ups by hand."""
    ctx.on_exit(lambda: mark(ctx, "first"))
    ctx.on_exit(lambda: mark(ctx, f"second {ctx.tempdir.is_dir()}"))
    if how == "break":
        ctx.on_exit(lambda: 1 // 0)
    mark(ctx, "run")
    if how == "raise":
        raise ValueError("the code broke")
    return base


def keep_files(ctx: Context, then_wait: bool) -> str:  # noqa: FBT001  given by name
    """Files in the temporary folder, one of them where nobody may write."""
    locked = ctx.tempdir / "locked"
    locked.mkdir()
    (locked / "file").write_text("kept")
    locked.chmod(0o500)
    mark(ctx, str(ctx.tempdir))
    ctx.progress(message="begun")
    while then_wait:
        time.sleep(0.01)
    return oct(ctx.tempdir.stat().st_mode & 0o777)


def shielded(ctx: Context) -> None:
    """A stop comes while it must not be torn."""
    try:
        with ctx.shield("publish"):
            ctx.progress(message="begun")
            while not ctx.labels["path"] or not Path(ctx.labels["path"] + ".go").exists():
                ctx.raise_if_cancelled()
            mark(ctx, "whole")
        mark(ctx, "went on")
    except BaseException as error:
        mark(ctx, type(error).__name__)
        raise


def steps(ctx: Context, fail: bool = False) -> Any:  # noqa: FBT001, FBT002  given by name
    """Two steps around a checkpoint."""

    def work(words: str) -> tuple[str, ...]:
        mark(ctx, words)
        return tuple(words.split())

    first = ctx.step("first", work, "one two")
    before = ctx.resume("nothing")
    ctx.checkpoint({"rows": 3})
    if fail:
        raise ValueError("between the steps")
    return [first, ctx.step("second", work, "three"), before, ctx.idempotency_key("mail")]


TASKS: tuple[Callable[..., Any], ...] = (
    *(provided, break_clean_up, open_never, open_twice, spin_between, wait_to_open, use_engine, exits, keep_files),
    *(shielded, steps),
)
