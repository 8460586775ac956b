"""A reader of one job's server-sent events, in a process of its own.

`python -m benchmarks.listening PORT PATH COUNT` prints, as JSON, the seconds from when the job emitted each of COUNT
reports (it says so in their message, by the monotonic clock) until they were read here.
"""

from __future__ import annotations

import json
import socket
import sys
import time

from benchmarks.paced import be_on_time


def measure(port: int, path: str, count: int) -> list[float]:
    """Read until so many reports came; those that were made before the reader was there are not counted."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
    times: list[float] = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        began, rest = time.monotonic(), b""
        while len(times) < count:
            data = connection.recv(65536)
            now = time.monotonic()
            if not data:
                message = f"The stream ended after {len(times)} reports: {rest[-500:]!r}"
                raise ConnectionError(message)
            *lines, rest = (rest + data).split(b"\n")
            emitted = [at for line in lines if (at := emitted_at(line)) is not None and at > began]
            times += [now - at for at in emitted]
    return times


def emitted_at(line: bytes) -> float | None:
    """When the report on this line was emitted; None for any other line."""
    if not line.startswith(b"data: "):
        return None
    data = json.loads(line[6:])
    if "updated_at" not in data or not data.get("message"):
        return None
    return float(data["message"])


if __name__ == "__main__":
    be_on_time()
    print(json.dumps(measure(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
