"""The worker's own process: `python -m heavylift.process CONFIG`. Imports no user code.

CONFIG is JSON: application (see `executor.Application`), settings, and two optional descriptors: `alive`, a pipe whose
end of file means that the parent is gone, and `ready`, which gets "ready" when the worker is warm, or the error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift import logs
from heavylift.core.errors import ConfigError, HeavyliftError
from heavylift.core.job import new_id
from heavylift.core.version import VERSION
from heavylift.executor import Application
from heavylift.executors import Nanny, Pools, processes
from heavylift.settings import Settings
from heavylift.store import SystemClock, WorkerRecord
from heavylift.stores import open_store
from heavylift.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from heavylift.executor import Executor
    from heavylift.store import Store

SAME_SIGNAL = 1.0
"""Signals within so many seconds count as one: a Ctrl-C may reach the process twice."""

GARBAGE = 10_000
"""Objects that are made before the collector looks at them."""

log = logging.getLogger("heavylift.worker")


def main(argument: str | None = None) -> int:
    """Run a worker until it is told to stop; the exit code: 0 drained, or stopped before it had begun, 2 it could not
    start.
    """
    logs.hold_standard_descriptors()
    config = json.loads(sys.argv[1] if argument is None else argument)
    ready = config.get("ready")
    try:
        logs.configure(Settings.load(**config["settings"]))
        asyncio.run(_work(config, ready))
    except HeavyliftError as error:
        if ready is not None:
            with contextlib.suppress(OSError):
                os.write(ready, str(error).encode()[:60000])
        else:
            print(f"heavylift: {error}", file=sys.stderr)  # noqa: T201  the program's own voice
        return 2
    except asyncio.CancelledError:  # asked to stop while it was starting
        return 0
    return 0


async def _work(config: dict[str, Any], ready: int | None) -> None:
    asyncio.get_running_loop().set_exception_handler(_broken)
    stops = _Stops(config.get("alive"))
    application = Application(**{name: _tupled(value) for name, value in config["application"].items()})
    given = {"store": config["settings"].get("store"), "log_json": logs.is_json(Settings.load(**config["settings"]))}
    nanny = await Nanny.start(replace(application, **given))
    settings = Settings.load(**(nanny.settings | config["settings"]))
    clock = SystemClock()
    store = open_store(settings.store, clock, inline=True)
    pool = Pools(nanny, settings)
    try:
        await store.open()
        await pool.start()
        record = _record(settings)
        logs.bound["worker"] = record.id
        worker = Worker(store, pool, settings, record, clock)
        stops.listen(worker.drain)
        warm = asyncio.get_running_loop().create_future()
        warm.add_done_callback(lambda _: _tell(ready))
        # Hundreds of records live for some milliseconds each, and nothing of them in cycles: look for those rarely.
        gc.set_threshold(GARBAGE)
        processes.settle_memory()
        async with _metrics(settings, store, pool):
            await worker.run(warm)
    finally:
        await pool.close(0.0)
        await store.close()


@contextlib.asynccontextmanager
async def _metrics(settings: Settings, store: Store, pool: Executor) -> AsyncIterator[None]:
    """Answer /metrics meanwhile, if the settings name a port; raises ConfigError without prometheus_client."""
    if not settings.metrics_port:
        yield
        return
    try:
        from heavylift.telemetry import endpoint, metrics  # noqa: PLC0415  4 MiB for those who ask for it
    except ModuleNotFoundError as error:
        message = (
            f"metrics_port needs prometheus_client, and {error.name} is missing: pip install 'heavylift[metrics]'."
        )
        raise ConfigError(message) from None

    def snapshot() -> Awaitable[metrics.Snapshot]:
        return metrics.of_worker(store, pool.tally.total(), pool.hosts)

    answering = asyncio.create_task(endpoint.answer(settings.metrics_host, settings.metrics_port, snapshot))
    try:
        yield
    finally:
        answering.cancel()
        await asyncio.wait([answering])


def _broken(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback that raised is a bug, and its job would hang: end, so that others settle what ran here."""
    log.critical("the worker is broken: %s", context["message"], exc_info=context.get("exception"))
    os._exit(70)


def _record(settings: Settings) -> WorkerRecord:
    return WorkerRecord(
        id=new_id(time.time(), os.urandom(9)),
        epoch=1,
        hostname=os.uname().nodename,
        pid=os.getpid(),
        process_started=_process_started(),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid_namespace=str(Path("/proc/self/ns/pid").readlink()),
        concurrency=settings.concurrency or len(os.sched_getaffinity(0)),
        queues=tuple(settings.queues),
        started_at=time.time(),
        version=VERSION,
    )


def _process_started() -> int:
    """The kernel's start time of this process in clock ticks: field 22 of proc_pid_stat(5)."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2]
    return int(after_name.split()[19])


class _Stops:
    """Whatever asks the worker to drain: TERM, INT and HUP, and the end of the web process (of the pipe `alive`).

    Heard from the first moment on: before there is a worker, what is being started is ended again. The second signal, a
    second later or more, cuts the drain short.
    """

    def __init__(self, alive: int | None) -> None:
        self._last = float("-inf")
        self._starting = asyncio.current_task()
        self._drain: Callable[[], None] | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._received, number)
        if alive is not None:
            loop.add_reader(alive, self._abandoned, alive)

    def listen(self, drain: Callable[[], None]) -> None:
        """Call this from now on."""
        self._drain = drain

    def _received(self, number: int) -> None:
        now = time.monotonic()
        if now - self._last >= SAME_SIGNAL:
            self._last = now
            self._stop(f"asked to stop by {signal.Signals(number).name}")

    def _abandoned(self, alive: int) -> None:
        asyncio.get_running_loop().remove_reader(alive)
        self._stop("the web process is gone")

    def _stop(self, why: str) -> None:
        log.info(why)
        if self._drain is not None:
            self._drain()
        elif self._starting is not None:
            self._starting.cancel()


def _tell(ready: int | None) -> None:
    if ready is not None:
        with contextlib.suppress(OSError):
            os.write(ready, b"ready\n")
            os.close(ready)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    # The default of 5 ms would make the store's thread wait that long behind a busy loop.
    sys.setswitchinterval(0.0005)
    sys.exit(main())
