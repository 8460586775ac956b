"""The worker's own /metrics: a small server in a thread, which asks the worker's loop when it is asked."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from prometheus_client import start_http_server
from prometheus_client.registry import Collector

from heavylift.telemetry.metrics import Snapshot, Told, registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import Metric

AGAIN = 5.0
"""Seconds between two tries to get a port that is taken: a predecessor may still be draining."""
PATIENCE = 5.0
"""Seconds that an answer may take."""

log = logging.getLogger("heavylift.worker")


class _Asking(Collector):
    """Asks another thread's loop for the moment's snapshot."""

    def __init__(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        self._snapshot, self._loop = snapshot, asyncio.get_running_loop()

    def describe(self) -> list[Metric]:
        """Nothing, see `metrics.Told`."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What there is to tell now."""

        async def now() -> Snapshot:
            return await self._snapshot()

        snapshot = asyncio.run_coroutine_threadsafe(now(), self._loop).result(PATIENCE)
        return Told(snapshot).collect()


async def answer(host: str, port: int, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
    """Answer on that address until cancelled. A port that is taken is tried again: jobs matter more than metrics."""
    collector = _Asking(snapshot)
    server: WSGIServer | None = None
    thread: threading.Thread | None = None
    while server is None:
        try:
            server, thread = start_http_server(port, host, registry(collector))
        except OSError as error:
            text = "no metrics on %s, port %d (%s); trying again every %g s"
            log.error(text, host, port, error.strerror or error, AGAIN)  # noqa: TRY400  the message says it all
            await asyncio.sleep(AGAIN)
    log.info("metrics are on http://%s:%d/metrics", host, port)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        if thread is not None:
            thread.join(PATIENCE)
