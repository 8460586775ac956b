"""Watches one job until it is over: a live bar on a terminal, plain lines when piped.

Everything goes to stderr, so that stdout holds the result alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from heavylift.cli import expected, output
from heavylift.core import event
from heavylift.core.errors import JobNotFound, StoreError
from heavylift.core.estimate import rest
from heavylift.core.job import Progress, State
from heavylift.core.units import about, spoken
from heavylift.http import render

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from heavylift.client import Client
    from heavylift.core.event import Event
    from heavylift.core.job import Job

EVERY = 1.0
"""Seconds between two lines of progress when piped, at least, and between two looks at what a job waits for."""
RARELY = 10.0
"""Seconds until it is said again that a job waits, when piped."""
FIRST = "in-line"
"""What is no news of a job that was just queued: it is about to start."""

ROOM = 80
"""Columns of a terminal that has room for the time that is left."""
BAR, SHORT_BAR, TASK = 30, 12, 32
"""Columns of the bar, of that on a terminal with less than WIDE columns, and of a task's name at most."""
WIDE = 100


class View(Protocol):
    """Where the news of a job are shown."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def state(self, state: State, text: str) -> None:
        """The job came into a state."""

    def waits(self, code: str, text: str) -> None:
        """It waits, for this reason."""

    def progress(self, value: Progress) -> None:
        """The job is so far."""


async def watch(client: Client, job: Job) -> Job:
    """Show what happens to the job until it is over; its last record."""
    with _view(job) as view:
        telling = asyncio.create_task(_tell(client, job.id, view))
        try:
            async for item in client.events(job.id):
                _show(view, item)
        finally:
            telling.cancel()
    last = await client.get(job.id)
    if sys.stderr.isatty() and last.finished_at is not None:
        took = spoken(last.finished_at - last.created_at)
        output.console(stderr=True).print(f"[{output.STYLES[last.state]}]{last.state}[/] after {took}")
    return last


async def _tell(client: Client, job_id: str, view: View) -> None:
    """Say what the job waits for, again and again while it does."""
    with contextlib.suppress(StoreError, JobNotFound):  # the events tell
        while not (job := await client.get(job_id)).state.final:
            found = (await client.outlook([job])).get(job.id)
            if found is not None and found.waiting is not None:
                view.waits(found.waiting.code, expected.waits(job, found, output.clock) or "")
            await asyncio.sleep(EVERY)


async def until_now(client: Client, job: Job) -> AsyncGenerator[Event, None]:
    """The events of a job up to its record's own."""
    after = 0
    while after < job.seq and (page := await client.store.events({job.id: after})):
        for item in page:
            yield item
        after = page[-1].seq


def _show(view: View, item: Event) -> None:
    if item.kind == event.STATE:
        view.state(State(item.data["state"]), output.state_line(item.data))
    elif item.kind == event.PROGRESS:
        view.progress(Progress(**{**item.data, "at": item.at}))
    elif item.kind == event.LOG:
        for line in item.data["lines"]:
            view.say(f"{line['level']}: {render.line_text(line)}")
    elif item.kind == event.CANCEL:
        view.say("asked to stop")


@contextlib.contextmanager
def _view(job: Job) -> Iterator[View]:
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars
    from rich.table import Column
    from rich.text import Text

    class Left(ProgressColumn):
        """The time that is left, where it can be told."""

        def render(self, task: Any) -> Text:
            seconds = task.fields["until"] - time.monotonic()
            return Text(f"{about(seconds)} left" if seconds > 0 and not task.finished else "")

    console = output.console(stderr=True)
    columns: list[ProgressColumn] = [
        TextColumn("{task.fields[state]}"),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=TASK)),
        BarColumn(bar_width=BAR if console.width >= WIDE else SHORT_BAR),
        TextColumn("{task.fields[text]}", table_column=Column()),  # why it waits may take several lines
        TimeElapsedColumn(),
    ]
    if console.width >= ROOM:
        columns.append(Left())
    with Bars(*columns, console=console, transient=True) as bars:
        yield Bar(bars, job)


class Lines:
    """Plain lines on stderr."""

    def __init__(self) -> None:
        self._said_at = self._waits_at = float("-inf")
        self._state: State | None = None
        self._waits_for = FIRST

    def say(self, text: str) -> None:
        """A line that stays."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def state(self, state: State, text: str) -> None:
        """The job came into a state."""
        self._state, self._waits_for = state, FIRST
        self.say(text)

    def waits(self, code: str, text: str) -> None:
        """It waits, for this reason; of one that stays the same only now and then."""
        now = time.monotonic()
        if self._state is State.QUEUED and (code != self._waits_for or now - self._waits_at >= RARELY):
            self._waits_for, self._waits_at = code, now
            self.say(text)

    def progress(self, value: Progress) -> None:
        """The job is so far; not more often than people read."""
        now = time.monotonic()
        if now - self._said_at >= EVERY or value.percent == 100:  # noqa: PLR2004  all of it
            self._said_at = now
            left = expected.left_then(value)
            self.say(output.progress_text(value) + (f"  {left}" if left else ""))


class Bar:
    """A live bar, with the lines that stay above it."""

    def __init__(self, bars: Any, job: Job) -> None:
        self._bars = bars
        self._bar = bars.add_task(output.safe(job.task), total=None, state="", text="", until=0.0)
        self._state: State | None = None

    def say(self, text: str) -> None:
        """A line that stays."""
        self._bars.console.print(output.safe(text))

    def state(self, state: State, text: str) -> None:
        """The job came into a state."""
        self._state = state
        self._bars.update(self._bar, state=f"[{output.STYLES[state]}]{state}[/]", text="", until=0.0)
        if state is State.QUEUED and " " in text:
            self.say(text)  # back in the queue, for a reason that is worth a line

    def waits(self, code: str, text: str) -> None:  # noqa: ARG002  the text says it too
        """It waits, for this reason."""
        if self._state is State.QUEUED:
            self._bars.update(self._bar, text=output.safe(text))

    def progress(self, value: Progress) -> None:
        """The job is so far."""
        total = 100 if value.percent is not None else None
        text = output.safe(output.progress_text(value))
        until = time.monotonic() + (rest(value.percent, value.rate) or 0.0)
        self._bars.update(self._bar, total=total, completed=value.percent or 0, text=text, until=until)
