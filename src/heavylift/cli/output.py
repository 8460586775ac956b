"""What commands print: for people on a terminal, tab-separated lines when piped, JSON when asked."""

from __future__ import annotations

import itertools
import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from heavylift.cli import expected
from heavylift.core import checkpoint, codec, event
from heavylift.core.job import State, Stopped
from heavylift.core.outcome import DRAIN, NEIGHBOUR_STOPPED, NOT_ALONE, NOT_STARTED
from heavylift.core.stack import Source
from heavylift.core.units import spoken
from heavylift.http import render
from heavylift.outlook import Outlook

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from heavylift.core.event import Event
    from heavylift.core.job import Job, Progress
    from heavylift.core.queue import Pause
    from heavylift.core.result import Receipt
    from heavylift.core.stack import Stack

STYLES = {
    State.QUEUED: "yellow",
    State.BLOCKED: "yellow",
    State.RUNNING: "cyan",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.CANCELLED: "magenta",
}
HEADS = ("ID", "TASK", "STATE", "DONE", "TOOK", "AGE", "QUEUE", "OUTLOOK")
GIVES_WAY = ("QUEUE", "ID", "AGE", "TOOK", "OUTLOOK", "DONE")
SHORT_ID = 8
"""The last characters of an id, which are enough to name its job."""
GAP = 2
"""Columns of a terminal between those of a table."""
ENOUGH = 40
"""Characters of a cell for which other columns give way; a longer text is cut first."""
FACT = 12
"""Columns of the name of a fact about a job."""
LINES = 20
"""The last entries of a job's log, which are shown with it."""
MAX_TEXT = 2000
"""Characters of arguments and results that are shown; --json has them whole."""

LEVELS = {"debug": "dim", "info": "green", "warning": "yellow", "error": "red"}
LONGEST_LEVEL = max(map(len, LEVELS))

LAST_DAY = 253402000000.0
"""Unix seconds in the last days of the year 9999, where calendars end."""

HOW = {
    Stopped.BEFORE_START: "it had not started",
    Stopped.SOFT: "its clean-up code ran to its end",
    Stopped.KILLED: "its processes were killed",
    Stopped.BETWEEN_ATTEMPTS: "between two attempts",
}


SOURCES = {
    Source.INTERPRETER: "its interpreter",
    Source.SIGNAL: "the handler of a signal: native code has the interpreter, or waits in the kernel",
    Source.NONE: "nobody: it has not begun, or its process runs nothing now",
}
PROCESS_STATES = {"R": "runs", "S": "sleeps", "D": "waits for a device", "T": "is stopped", "Z": "is dead"}


def console(*, stderr: bool = False) -> Console:
    """A console that writes plain text when it is no terminal."""
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            """Let the command end as it does for all that it prints: well."""
            raise BrokenPipeError

    return Pipe(stderr=stderr, highlight=False, soft_wrap=True)


def data(value: Any) -> None:
    """One JSON value on one line of stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def as_json(job: Job, outlook: Outlook | None = None) -> dict[str, Any]:
    """The job resource, as the HTTP API has it; links lead nowhere here."""
    resource = render.job(job, outlook=outlook)
    del resource["links"]
    return resource


def jobs(found: Sequence[Job], outlooks: Mapping[str, Outlook]) -> None:
    """A table of jobs, and what is to be expected of them (by id)."""
    rows = [_cells(job, outlooks.get(job.id, Outlook())) for job in found]
    table(HEADS, rows, gives_way=GIVES_WAY, styles={"STATE": STYLES})


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    gives_way: Sequence[str] = (),
    styles: Mapping[str, Mapping[Any, str]],
) -> None:
    """Rows with a head and colours on a terminal, else a line of tab-separated values for each.

    On a terminal that is too narrow the columns of `gives_way` go, one after the other, ids to their last characters;
    what still does not fit is cut. `styles` are the colours of texts, by the head above them.
    """
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(row) + "\n")
        return
    from rich.table import Table

    out = console()
    columns = _fitting(heads, list(rows), gives_way, out.width)
    shown = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for head, most in zip(columns, _widths(columns, out.width), strict=True):
        shown.add_column(head, no_wrap=True, max_width=most)
    for row in zip(*columns.values(), strict=True):
        marks = [styles.get(head, {}).get(cell) for head, cell in zip(columns, row, strict=True)]
        shown.add_row(
            *[f"[{mark}]{safe(cell)}[/]" if mark else safe(cell) for mark, cell in zip(marks, row, strict=True)]
        )
    out.print(shown)


def _fitting(
    heads: Sequence[str], rows: Sequence[Sequence[str]], gives_way: Sequence[str], width: int
) -> dict[str, list[str]]:
    """The columns that fit into so many of a terminal, by their heads."""
    from rich.cells import cell_len

    columns = {head: [row[index] for row in rows] for index, head in enumerate(heads)}
    for head in gives_way:
        cut = ([cell[:ENOUGH] for cell in [name, *cells]] for name, cells in columns.items())
        if sum(max(map(cell_len, cells)) + GAP for cells in cut) - GAP <= width:
            break
        if head == "ID":
            columns[head] = [cell[-SHORT_ID:] for cell in columns[head]]
        else:
            del columns[head]
    return columns


def _widths(columns: Mapping[str, Sequence[str]], width: int) -> list[int]:
    """How wide each column is to be, so that all fit into so many: the widest ones are cut, none below its head."""
    from rich.cells import cell_len

    least = [cell_len(head) for head in columns]
    found = [max([low, *map(cell_len, cells)]) for low, cells in zip(least, columns.values(), strict=True)]
    for _ in range(sum(found) + GAP * (len(found) - 1) - width):
        widest = max(range(len(found)), key=lambda index: (found[index] > least[index], found[index]))
        found[widest] = max(least[widest], found[widest] - 1)
    return found


def hanging(out: Console, mark: str, width: int, text: str, indent: int) -> None:
    """A text after a mark of so many columns, wrapped to the terminal; further lines stand `indent` further right."""
    import textwrap

    lines = textwrap.wrap(
        " ".join(text.split("\n")),
        max(20, out.width - width - 1),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
        fix_sentence_endings=False,
    )
    for number, line in enumerate(lines):
        out.print((mark or " " * width) + " " + safe(line) if not number else " " * (width + 1) + safe(line))


def _cells(job: Job, outlook: Outlook) -> list[str]:
    now = time.time()
    took = "" if job.started_at is None else spoken((job.finished_at or now) - job.started_at, short=True)
    percent = job.progress.percent if job.progress else None
    done = "" if percent is None else f"{percent:.0f} %"
    age = spoken(now - job.created_at, short=True)
    return [job.id, job.task, job.state.value, done, took, age, job.queue, expected.short(outlook)]


def job(record: Job, history: Iterable[Event], outlook: Outlook | None = None) -> None:
    """Everything about one job, and what is to be expected of it."""
    out = console()
    style = STYLES[record.state]
    out.print(f"[bold]{safe(record.task)}[/]  {safe(record.id)}  [{style}]{record.state}[/]\n")
    for name, text in _facts(record, outlook or Outlook()):
        out.print(f"  [dim]{name:<{FACT}}[/]{safe(text)}")
    out.print()
    for at, line in _history(history):
        out.print(f"  [dim]{_local(at):%H:%M:%S}.{_thousandths(at)}[/]  {safe(line)}")
    if record.state is not State.SUCCEEDED:
        verb = "retry" if record.state.final else "cancel"
        out.print(f"\n  [dim]{'next':<{FACT}}[/]heavylift {verb} {safe(record.id)}")


def _facts(job: Job, outlook: Outlook) -> Iterable[tuple[str, str]]:
    if job.progress is not None:
        yield "progress", progress_text(job.progress)
    if left := expected.left(outlook, clock):
        yield "left", left
    yield "arguments", _shown(job.args)
    yield "queue", job.queue + (f", priority {job.options.priority}" if job.options.priority else "")
    if job.options.labels:
        yield "labels", " ".join(f"{key}={value}" for key, value in job.options.labels.items())
    yield from _times(job)
    if waits := expected.waits(job, outlook, clock):
        yield "waits", waits
    yield from _ends(job)


def _times(job: Job) -> Iterable[tuple[str, str]]:
    yield "created", _when(job.created_at)
    if job.expires_at is not None and job.attempt == 0:
        yield "expires", _when(job.expires_at)
    if job.started_at is not None:
        yield "started", f"{_when(job.started_at)}, attempt {job.attempt}"
    if job.finished_at is not None:
        took = "" if job.started_at is None else f", it took {spoken(job.finished_at - job.started_at)}"
        yield "finished", _when(job.finished_at) + took


def _ends(job: Job) -> Iterable[tuple[str, str]]:
    if job.cancel is not None:
        yield "cancel", f"requested {_when(job.cancel.at)}" + (f": {job.cancel.reason}" if job.cancel.reason else "")
    if job.stopped is not None:
        yield "stopped", HOW[job.stopped]
    if job.error is not None:
        yield "error", f"{job.error.message} ({job.error.code})"
        for text in (job.error.traceback, job.error.stderr):
            if text:
                yield "", text.rstrip().replace("\n", "\n" + " " * (FACT + 2))
    if job.checkpoint is not None:
        saved = checkpoint.read(job.checkpoint)
        if saved.value is not None:
            yield "checkpoint", _shown(saved.value)
        if saved.steps:
            yield "steps", ", ".join(saved.steps)
    if job.state is State.SUCCEEDED:
        yield "result", _shown(job.result or b"null")


def _history(events: Iterable[Event]) -> Iterable[tuple[float, str]]:
    """A line for each thing that happened, but one for checkpoints that follow each other, and the end of the log."""
    told = list(events)
    logs = [item for item in told if item.kind == event.LOG]
    early = logs[:-LINES]
    if early:
        left_out = {item.seq for item in early[1:]}
        told = [item for item in told if item.seq not in left_out]
    for kind, group in itertools.groupby(told, lambda item: item.kind):
        items = list(group)
        if kind == event.CHECKPOINT:
            times = f" ({len(items)} times)" if len(items) > 1 else ""
            yield items[-1].at, f"checkpoint saved{times}"
            continue
        for item in items:
            if early and item is early[0]:
                count = sum(len(one.data["lines"]) for one in early)
                yield item.at, f"({count:,} lines of its log: heavylift logs {item.job})"
            elif line := _line(item):
                yield item.at, line


def _line(item: Event) -> str | None:
    about = item.data
    match item.kind:
        case event.STATE:
            return state_line(about)
        case event.CANCEL:
            return "asked to stop" + (", at once" if about.get("force") else "")
        case event.LOG:
            indented = "\n" + " " * 18
            lines = [f"{line['level']}: {render.line_text(line)}".replace("\n", indented) for line in about["lines"]]
            if about.get("dropped"):
                lines.append(f"({about['dropped']} lines dropped)")
            return "\n                ".join(lines)
    return None


def state_line(about: Mapping[str, Any]) -> str:
    """The data of a state event as one line."""
    state, outcome = about["state"], about.get("outcome")
    why = f": {about['error']['message']}" if "error" in about else ""
    if not why and outcome == "interrupted":
        why = f": {INTERRUPTED.get(about['reason'], about['reason'])}"
    if about.get("killed"):
        why = f"{why.rstrip('.')}, and it was killed when its grace was over"
    at = f"at {clock(about['run_at'])}" if "run_at" in about else "at once"
    if state == State.RUNNING:
        return f"attempt {about['attempt']} started"
    if state != State.QUEUED:
        return f"{state}{why}"
    if about.get("moved"):
        return f"moved: priority {about['priority']}" + (f", to start {at}" if "run_at" in about else "")
    if outcome is None:
        anew = "queued anew" + (", from its checkpoint" if about.get("from_checkpoint") else "")
        return (anew if about.get("retry") else "queued") + (f", to start {at}" if "run_at" in about else "")
    return f"attempt {about['attempt']} {ENDED.get(outcome, outcome)}{why.rstrip('.')}; again {at}"


INTERRUPTED = {
    DRAIN: "its worker was stopped",
    NOT_STARTED: "handed back unstarted, as no host was free in time",
    NEIGHBOUR_STOPPED: "another job in its host had to be killed",
    NOT_ALONE: "its host died, and others ran there; it runs alone from now on, to find out who did it",
}
ENDED = {
    "failed": "failed",
    "timed-out": "ran out of time",
    "crashed": "crashed",
    "interrupted": "was interrupted",
    "snoozed": "asked for a pause",
}


def receipt_as_json(value: Receipt) -> dict[str, Any]:
    """The receipt, as the HTTP API has it."""
    resource = render.receipt(value)
    del resource["links"]
    return resource


def receipt(value: Receipt) -> None:
    """What a cancel did, in a line or two."""
    out = console()
    style = STYLES[value.state]
    if not value.final:
        out.print(f"[{style}]{value.state}[/]  asked to stop, and not over yet")
        return
    after = "" if value.after_ms is None else f" after {spoken(value.after_ms / 1000)}"
    how = f": {HOW[value.stopped]}" if value.stopped else ": it ended by itself before it could be stopped"
    out.print(f"[{style}]{value.state}[/]{after}{how}")
    if value.checkpoint:
        out.print(f"its checkpoint is kept; `heavylift retry {safe(value.job_id)}` goes on from there")


def stack_as_json(value: Stack) -> dict[str, Any]:
    """A stack, as the HTTP API has it."""
    return render.stack(value)


def stack(record: Job, value: Stack) -> None:
    """Where the code of a running job is, and its processes."""
    out = console()
    out.print(f"[bold]{safe(record.task)}[/]  {safe(record.id)}  attempt {value.attempt}\n")
    out.print(safe(value.text.rstrip() or "  (none of the task's Python code)"))
    out.print()
    out.print(f"  [dim]{'source':<10}[/]{SOURCES[value.source]}")
    found = [("process", value.process)] if value.process is not None else []
    for name, process in [*found, *(("child", child) for child in value.children)]:
        state = PROCESS_STATES.get(process.state, process.state) + (f" in {process.wait}" if process.wait else "")
        took = f"{spoken(process.cpu)} of CPU, {process.memory / 2**20:,.0f} MiB"
        out.print(f"  [dim]{name:<10}[/]{process.pid}  {safe(process.command)}  ({safe(state)}, {took})")


def pause_text(value: Pause) -> str:
    """Since when a queue is paused, by whom and why: one line, for a terminal as well."""
    by = f" by {value.by}" if value.by else ""
    why = f": {value.reason}" if value.reason else ""
    line = " ".join(f"{spoken(max(time.time() - value.at, 0), short=True)} ago{by}{why}".split())
    return "".join(char if char.isprintable() else "�" for char in line)


def progress_text(value: Progress) -> str:
    """A progress as one line: percent, done of total, phase, message."""
    parts = [] if value.percent is None else [f"{value.percent:.0f} %"]
    if value.done is not None:
        total = "" if value.total is None else f"/{value.total:,.10g}"
        parts.append(f"{value.done:,.10g}{total}" + (f" {value.unit}" if value.unit else ""))
    parts += [text for text in (value.phase, value.message) if text]
    return "  ".join(parts) or "some"


def _when(at: float) -> str:
    since = time.time() - at
    return f"{clock(at)} ({f'{spoken(since)} ago' if since >= 0 else f'in {spoken(-since)}'})"


def clock(at: float) -> str:
    """The time, with its date unless it is today's."""
    local = _local(at)
    return f"{local:%H:%M:%S}" if local.date() == _local(time.time()).date() else f"{local:%Y-%m-%d %H:%M:%S}"


def log_line(at: float, level: str, message: str) -> str:
    """A line of a job's log, as markup: its time, its level, and its text, of which further lines are indented."""
    style = LEVELS.get(level, "default")
    time_of_day = f"{clock(at)}.{_thousandths(at)}"
    text = safe(message).replace("\n", f"\n{'':{len(time_of_day)}}  {'':{LONGEST_LEVEL}}  ")
    return f"[dim]{time_of_day}[/]  [{style}]{safe(level):<{LONGEST_LEVEL}}[/]  {text}"


def _thousandths(at: float) -> str:
    return f"{int(at % 1 * 1000):03d}"


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(min(at, LAST_DAY), UTC).astimezone()


def _shown(value: bytes) -> str:
    text = value.decode()
    decoded = codec.decode(value)
    if isinstance(decoded, dict):
        text = " ".join(f"{key}={json.dumps(item, ensure_ascii=False)}" for key, item in decoded.items()) or "none"
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text):,} characters; --json has all)"


def safe(text: str) -> str:
    """Text from outside: no markup, and no control characters that a terminal would obey."""
    from rich.markup import escape

    return escape("".join(char if char.isprintable() or char == "\n" else "�" for char in text))
