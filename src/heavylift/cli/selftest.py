"""`selftest`: jobs of its own, on the store that is configured, by a worker of its own.

Its queue is a reserved one, which no other worker serves, and its tasks have names of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift.cli import find, output
from heavylift.cli.exits import Exit, complain
from heavylift.cli.selftest_tasks import PREFIX
from heavylift.cli.selftest_tasks import lift as own
from heavylift.core import codec, event
from heavylift.core.errors import HeavyliftError
from heavylift.core.job import State, Stopped, new_id
from heavylift.core.options import Options
from heavylift.core.retry import Retry, fixed
from heavylift.core.units import spoken
from heavylift.submission import ID_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from heavylift.app import Heavylift
    from heavylift.client import Client
    from heavylift.core.job import Job

PATIENCE = 60.0
"""Seconds that a step may take on a busy machine."""
ABANDONED = 600.0
"""Seconds after which a job of an earlier selftest that is not over has been left behind."""
BURNT = 10
"""Clock ticks after which a job is surely where it stays."""
TEXT = "žluťoučký kůň 🐎"
OPTIONS = Options().using(queue=PREFIX, timeout=PATIENCE, losses=3, labels={"heavylift": "selftest"})
FOREVER = "36500d"
"""Its worker keeps house as any other: it must not let go of jobs that the application keeps for longer."""


class StepFailed(Exception):
    """A step found something else than it should."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What the steps work with, and the jobs that they have submitted."""

    client: Client
    jobs: list[str] = field(default_factory=list)

    async def end_jobs(self) -> None:
        """Stop those that a step has left, so that the worker has nothing to wait for."""
        for job in self.jobs:
            with contextlib.suppress(HeavyliftError):  # most are over
                await self.client.cancel(job, force=True)


def examine(app: str | None, store: str | None, *, as_json: bool) -> Exit:
    """Do all steps, and print each as it passes."""
    lift = find.examined(store, app)
    report = _Report(as_json=as_json)
    try:
        asyncio.run(_run(lift, report))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except HeavyliftError as error:
        report.failed(str(error))
    except TimeoutError:
        report.failed(f"it took more than {PATIENCE:g} s")
    except StepFailed as error:
        report.failed(str(error))
    return report.end(lift)


async def _run(lift: Heavylift, report: _Report) -> None:
    report.begin("open")
    async with lift:
        await _clear_away(lift.client)
        report.passed(lift.store_url)
        report.begin("worker")
        async with _working(lift.store_url, report) as worker:
            report.passed(f"process {worker.pid} is warm")
            bench = Bench(lift.client)
            try:
                for name, step in STEPS.items():
                    report.begin(name)
                    async with asyncio.timeout(PATIENCE):
                        report.passed(await step(bench))
            finally:
                await bench.end_jobs()
            report.begin("stop")
        report.passed("the worker drained, and is gone")


# --- the steps ---------------------------------------------------------------------------------------------------


async def _submit(bench: Bench) -> str:
    job = await _submitted(bench, "echo", text=TEXT)
    submitted = time.perf_counter()
    job = await bench.client.finished(job.id)
    _expect(job, State.SUCCEEDED)
    if codec.decode(job.result or b"null") != TEXT:
        message = f"the result came back as {job.result!r}"
        raise StepFailed(message)
    return f"a job, and its result {(time.perf_counter() - submitted) * 1000:.1f} ms later"


async def _follow(bench: Bench) -> str:
    job = await _submitted(bench, "counts", to=1000)
    items = [item async for item in bench.client.events(job.id)]
    kinds = {item.kind for item in items}
    missing = {event.STATE, event.PROGRESS, event.LOG, event.CHECKPOINT} - kinds
    numbers = [item.seq for item in items]
    if missing or numbers != sorted(set(numbers)) or items[-1].data.get("state") != State.SUCCEEDED:
        message = f"its events were {numbers}, without {', '.join(missing) or 'its end'}"
        raise StepFailed(message)
    return f"{len(items)} events, in order: states, progress, log, checkpoint"


async def _cancel(bench: Bench) -> str:
    job, pid = await _begun(bench, "spins")
    receipt = await bench.client.cancel(job.id, grace=PATIENCE / 2, reason="selftest")
    if (receipt.state, receipt.stopped) != (State.CANCELLED, Stopped.SOFT):
        message = f"it is {receipt.state}, stopped: {receipt.stopped}"
        raise StepFailed(message)
    logged = [
        line["message"] for item in await _events(bench, job) if item.kind == event.LOG for line in item.data["lines"]
    ]
    if "cleaned up" not in logged:
        message = "its clean-up code did not run"
        raise StepFailed(message)
    await _gone(pid)
    return f"`while True: pass` stopped after {receipt.after_ms or 0:.0f} ms, its clean-up code ran"


async def _kill(bench: Bench) -> str:
    job, pid = await _begun(bench, "native")
    before = _cpu(pid)
    # A stop that came sooner would meet Python code, and be heard.
    await asyncio.to_thread(_until, lambda: _cpu(pid) >= before + BURNT, "it does not burn CPU")
    receipt = await bench.client.cancel(job.id, grace=0.2, reason="selftest")
    if (receipt.state, receipt.stopped) != (State.CANCELLED, Stopped.KILLED):
        message = f"it is {receipt.state}, stopped: {receipt.stopped}"
        raise StepFailed(message)
    await _gone(pid)
    return f"native code that hears nothing, after {receipt.after_ms or 0:.0f} ms (grace 200 ms); its process is gone"


async def _retry(bench: Bench) -> str:
    job = await _submitted(bench, "stumbles", retry=Retry(2, fixed(0.05)))
    job = await bench.client.finished(job.id)
    _expect(job, State.SUCCEEDED)
    other = await bench.client.finished((await _submitted(bench, "stumbles", retry=1)).id)
    _expect(other, State.FAILED)
    await bench.client.retry(other.id)
    _expect(await bench.client.finished(other.id), State.SUCCEEDED)
    return f"one that failed succeeded at attempt {job.attempt}; one that had failed for good, by `retry`"


STEPS: dict[str, Callable[[Bench], Awaitable[str]]] = {
    "submit": _submit,
    "follow": _follow,
    "cancel": _cancel,
    "kill": _kill,
    "retry": _retry,
}


async def _submitted(bench: Bench, name: str, retry: Retry | int | None = None, **arguments: Any) -> Job:
    options = OPTIONS if retry is None else OPTIONS.using(retry=retry)
    # Known before it is there: who is interrupted meanwhile must find it again.
    bench.jobs.append(new_id(time.time(), os.urandom(ID_BYTES)))
    [job] = await bench.client.submit([(f"{PREFIX}.{name}", codec.encode(arguments), options)], bench.jobs[-1:])
    return job


async def _begun(bench: Bench, name: str) -> tuple[Job, int]:
    """A job that runs, and the process in which it does."""
    job = await _submitted(bench, name)
    async with contextlib.aclosing(bench.client.events(job.id)) as events:
        async for item in events:
            if item.kind == event.PROGRESS:
                return job, int(item.data["message"])
    _expect(await bench.client.get(job.id), State.RUNNING)
    message = "it reported nothing"
    raise StepFailed(message)


async def _events(bench: Bench, job: Job) -> list[event.Event]:
    return [item async for item in bench.client.events(job.id)]


def _cpu(pid: int) -> int:
    """Clock ticks of CPU time that a process has taken."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        message = f"process {pid} is gone"
        raise StepFailed(message) from None
    return int(fields[11]) + int(fields[12])


async def _gone(pid: int) -> None:
    """Wait until a process is over."""
    await asyncio.to_thread(_until, lambda: not Path(f"/proc/{pid}").exists(), f"process {pid} is still there")


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE / 2
    while not condition():
        if time.monotonic() > end:
            raise StepFailed(otherwise)
        time.sleep(0.01)


def _expect(job: Job, state: State) -> None:
    if job.state is not state:
        why = f": {job.error.message}" if job.error else ""
        message = f"job {job.id} is {job.state}, not {state}{why}"
        raise StepFailed(message)


# --- its surroundings --------------------------------------------------------------------------------------------


async def _clear_away(client: Client) -> None:
    """End what an earlier selftest left behind that was killed."""
    states = [State.QUEUED, State.RUNNING]
    async for job in client.find(state=states, queue=PREFIX):
        if time.time() - job.created_at > ABANDONED:
            with contextlib.suppress(HeavyliftError):  # somebody else was faster
                await client.cancel(job.id, reason="left behind by an earlier selftest", wait=0)


@contextlib.asynccontextmanager
async def _working(store_url: str, report: _Report) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A worker for the queue of the selftest alone; it goes with this process, however that ends."""
    alive, alive_in = os.pipe()
    ready, ready_in = os.pipe()
    settings = {"store": store_url, "concurrency": 2, "keep": FOREVER, "keep_succeeded": 0, "keep_failed": 0}
    settings |= {"metrics_port": 0, "log_format": "console", "queues": {PREFIX: 1}}
    config = {
        "application": asdict(own.origin()),
        "settings": settings,
        "alive": alive,
        "ready": ready_in,
    }
    process = subprocess.Popen(  # noqa: ASYNC220, S603  our own module, no shell; it only forks
        [sys.executable, "-m", "heavylift.process", json.dumps(config)],
        pass_fds=(alive, ready_in),
        stderr=report.log,
        start_new_session=True,
    )
    os.close(alive)
    os.close(ready_in)
    try:
        answer = await asyncio.to_thread(_read, ready)
        if answer != "ready\n":
            raise StepFailed(answer or "the worker ended before it was warm")
        yield process
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, PATIENCE)
        if code:
            message = f"the worker ended with exit code {code}"
            raise StepFailed(message)
    finally:
        os.close(alive_in)  # it drains, were it not gone
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE / 2)
        process.kill()
        process.wait()


def _read(descriptor: int) -> str:
    with open(descriptor, "rb") as pipe:
        return pipe.read().decode(errors="replace")


class _Report:
    """Prints the steps as they end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._step, self._began = "", 0.0
        self._failed = False
        self._first = time.perf_counter()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  as long as this object
        """What the worker says; shown when a step failed."""

    def begin(self, step: str) -> None:
        """A step begins."""
        self._step, self._began = step, time.perf_counter()

    def passed(self, what: str) -> None:
        """It did what it should."""
        self._say("ok", what)

    def failed(self, what: str) -> None:
        """It did not."""
        self._failed = True
        self._say("fail", what)

    def end(self, lift: Heavylift) -> Exit:
        """Say how it was; the exit code."""
        if not self._failed:
            if not self._as_json:
                took = time.perf_counter() - self._first
                sys.stdout.write(f"All passed in {took:.1f} s. Its finished jobs stay in queue {PREFIX} for a while.\n")
            return Exit.OK
        self.log.seek(0)
        said = self.log.read().decode(errors="replace").strip()
        if said:
            sys.stderr.write("The worker said:\n" + "\n".join(f"  {line}" for line in said.splitlines()[-20:]) + "\n")
        complain(f"the step {self._step!r} failed on {lift.store_url}")
        sys.stderr.write("`heavylift doctor` looks for the cause.\n")
        return Exit.FAILED

    def _say(self, level: str, what: str) -> None:
        seconds = time.perf_counter() - self._began
        if self._as_json:
            output.data({"step": self._step, "ok": level == "ok", "ms": round(seconds * 1000, 1), "what": what})
        else:
            mark = output.console()
            style = "green" if level == "ok" else "bold red"
            time_taken = spoken(seconds)
            mark.print(f"[{style}]{level:<4}[/]  {self._step:<7} {time_taken:>7}  {output.safe(what)}")
        sys.stdout.flush()
