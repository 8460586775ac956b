"""Serves an application with uvicorn: on loopback only, and with an end that open streams cannot hold up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import uvicorn

from heavylift.core.errors import ConfigError
from heavylift.http.api import build
from heavylift.http.transport import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from heavylift.app import Heavylift
    from heavylift.http.service import Role, Service

GRACE = 5
"""Seconds that requests under way get to end at a stop; jobs have their own, after that."""
SAME_SIGNAL = 1.0
"""Signals within so many seconds count as one: a Ctrl-C may reach the process twice."""


def serve(
    lift: Heavylift, host: str, port: int, role: Role = "monolith", announce: Callable[[str], None] | None = None
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the exit code. A second signal ends it at once: what still runs goes
    back to its queue. `announce` gets the address when requests are answered.

    Raises ConfigError for an address that cannot be used, and when the worker cannot start.
    """
    return serve_on(lift, bind(host, port), role, announce)


def serve_on(
    lift: Heavylift,
    listener: socket.socket,
    role: Role,
    announce: Callable[[str], None] | None = None,
    alive: int | None = None,
) -> int:
    """Like `serve`, on a bound socket. `alive` is a pipe whose end of file tells to stop: the parent is gone."""
    app = build(lift, role)
    config = uvicorn.Config(
        app,
        http=Protocol,
        proxy_headers=False,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config, app.state.service, announce)
    with contextlib.closing(listener), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        return runner.run(_run(server, listener, alive))


async def _run(server: _Server, listener: socket.socket, alive: int | None) -> int:
    main = asyncio.current_task()
    first: float | None = None

    def stop() -> None:
        nonlocal first
        if first is not None and time.monotonic() - first > SAME_SIGNAL:
            os._exit(1)  # the worker sees the end of its pipe, and cuts its drain short
        first = first or time.monotonic()
        server.service.stop()
        server.should_exit = True
        if not server.started and main is not None:
            main.cancel()  # nothing is served yet

    def abandoned(pipe: int) -> None:
        loop.remove_reader(pipe)
        stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if alive is not None:
        loop.add_reader(alive, abandoned, alive)
    try:
        async with server.service.running():
            await server.serve([listener])
    except asyncio.CancelledError:
        if first is None:
            raise
    return 0


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which ends with the last request, before the worker has drained."""

    def __init__(self, config: uvicorn.Config, service: Service, announce: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self.service = service
        self._announce = announce

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `serve`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)
        if self._announce is not None and sockets:
            self._announce(address(sockets[0]))


def address(listener: socket.socket) -> str:
    """Where a socket listens, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound and does not listen yet: a port that is taken is found before anything starts."""
    family, address = _loopback(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(_why_not(host, port, error)) from None
    return listener


def _loopback(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, OverflowError, UnicodeError) as error:
        message = f"{host!r} is no address that this machine knows ({error}); use --host 127.0.0.1."
        raise ConfigError(message) from None
    for _, _, _, _, address in found:
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
            message = (
                f"Refusing to listen on {host}: this API has no authentication yet, so whoever reaches it could run and"
                " stop every task. It serves this machine only: use --host 127.0.0.1, and put a reverse proxy that"
                " checks who calls in front of it."
            )
            raise ConfigError(message)
    # IPv4 first where a name has both, as most callers on this machine will try it.
    family, _, _, _, address = min(found, key=lambda item: item[0] != socket.AF_INET)
    return family, (str(address[0]), int(address[1]))


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken by another program. Stop it, or choose another one: --port {port + 1}."
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than this user has; choose one from 1024: --port 8000."
    return f"Cannot listen on {host}, port {port}: {error.strerror}."


def default_announce(address: str) -> None:
    """Say where the API is."""
    print(f"Heavylift serves {address}", file=sys.stderr, flush=True)  # noqa: T201  the program's own voice
