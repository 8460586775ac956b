"""Tasks of ExecutorContract that save something and are then ended, in one way or another."""

from __future__ import annotations

import collections
import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from heavylift.context import Context


def save_and(ctx: Context, how: str) -> None:
    """Save a value, and end at once, or go on in native code."""
    ctx.progress(message="begun")
    ctx.checkpoint("early")
    ctx.log.info("saving")
    ctx.checkpoint("late")
    match how:
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "native":
            collections.deque(itertools.count(), maxlen=0)


def tidy(ctx: Context, how: str, path: str) -> None:
    """Go on until it is stopped, and then clean up in peace: it says so, and saves how far it came."""
    try:
        ctx.progress(message="begun")
        match how:
            case "sleep":
                time.sleep(1000)
            case "poll":
                while True:
                    ctx.raise_if_cancelled()
            case "track":
                for _ in ctx.track(itertools.count()):
                    pass
            case "shield":
                with ctx.shield("whole"):
                    time.sleep(0.3)  # the stop comes meanwhile, or later
                while True:
                    ctx.raise_if_cancelled()
    except BaseException:
        tidy_up(ctx, "handling")
        raise
    finally:
        tidy_up(ctx, "cleaning")
        Path(path).write_text("cleaned up")


def tidy_up(ctx: Context, what: str) -> None:
    """Say, save, take some time, say and save again."""
    for part in ("begin", "end"):
        ctx.log.info("%s %s", what, part)
        ctx.progress(1, 2, what)
        ctx.checkpoint([what, part])
        # More than one signal of the stop comes meanwhile.
        end = time.monotonic() + 0.06
        while time.monotonic() < end:
            pass


TASKS: tuple[Callable[..., None], ...] = (save_and, tidy)
