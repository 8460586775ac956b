"""A client that does not disturb: one connection, a request at fixed times, each timed; in a process of its own.

`python -m benchmarks.paced PORT PATH RATE COUNT` prints the seconds of each answer, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sys
import time

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
PRIORITY = 10


def measure(port: int, path: str, rate: float, count: int) -> list[float]:
    """Seconds of `count` requests at `rate` a second, each from the moment at which it was sent."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    times = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer(connection, request)
        first = time.perf_counter()
        for number in range(count):
            wait = first + number / rate - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            began = time.perf_counter()
            answer(connection, request)
            times.append(time.perf_counter() - began)
    return times


def answer(connection: socket.socket, request: bytes) -> None:
    """Send a request and read its whole answer, which has to be a 200."""
    connection.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            message = f"The server closed the connection after {data!r}"
            raise ConnectionError(message)
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200") or found is None:
        message = f"Unexpected answer: {head!r}"
        raise ConnectionError(message)
    while len(body) < int(found[1]):
        body += connection.recv(65536)


def be_on_time() -> None:
    """Run before everything else, where that is allowed: what is measured is the server, not this process's waiting."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))


if __name__ == "__main__":
    be_on_time()
    print(json.dumps(measure(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))))
