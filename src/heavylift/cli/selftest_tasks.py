"""The application of `heavylift selftest`: its worker and hosts import this instead of the user's."""

from __future__ import annotations

import os

from heavylift.app import Heavylift
from heavylift.context import Context
from heavylift.core.options import RESERVED

PREFIX = f"{RESERVED}selftest"

lift = Heavylift("memory://")
"""Only registers the tasks: the worker is told which store to work on."""


@lift.task(name=f"{PREFIX}.echo")
def echo(text: str) -> str:
    """The text again."""
    return text


@lift.task(name=f"{PREFIX}.counts")
def counts(ctx: Context, to: int) -> int:
    """Reports what a job can report."""
    for number in range(to):
        ctx.progress(number + 1, to)
    ctx.log.info("counted")
    ctx.checkpoint({"to": to})
    return to


@lift.task(name=f"{PREFIX}.spins")
def spins(ctx: Context) -> None:
    """Never ends by itself, and cleans up when it is stopped."""
    try:
        ctx.progress(0, 1, str(os.getpid()))
        while True:
            pass
    finally:
        ctx.log.info("cleaned up")


@lift.task(name=f"{PREFIX}.native")
def native(ctx: Context) -> int:
    """Never comes back from C, where no signal is heard."""
    ctx.progress(0, 1, str(os.getpid()))
    return sum(range(10**18))


@lift.task(name=f"{PREFIX}.stumbles")
def stumbles(ctx: Context) -> int:
    """Fails at its first start."""
    if ctx.attempt == 1:
        message = "the first attempt fails"
        raise RuntimeError(message)
    return ctx.attempt
