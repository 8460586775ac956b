"""A client that asks for as much as a server gives: some connections, each with one request under way at a time.

`python -m benchmarks.posting PORT PATH CONNECTIONS SECONDS` posts standard input, and prints {rate, p50, p99} as JSON:
answers a second, and milliseconds. Every answer has to be a 202.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

from benchmarks.report import percentile

WARM_UP = 0.5


def measure(port: int, path: str, connections: int, seconds: float, body: bytes) -> dict[str, float]:
    """Load the server for so many seconds, after half a second that is not counted."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    request = f"{head}\r\n\r\n".encode() + body
    poll = select.epoll()
    streams: dict[int, socket.socket] = {}
    sent: dict[int, float] = {}
    for _ in range(connections):
        stream = socket.create_connection(("127.0.0.1", port), timeout=10)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.sendall(request)
        streams[stream.fileno()], sent[stream.fileno()] = stream, time.perf_counter()
        poll.register(stream, select.EPOLLIN)
    first = time.perf_counter() + WARM_UP
    end = first + seconds
    waiting = dict.fromkeys(streams, b"")
    times: list[float] = []
    while (now := time.perf_counter()) < end:
        for descriptor, _ in poll.poll(1.0):
            stream = streams[descriptor]
            data = waiting[descriptor] + stream.recv(65536)
            if not is_whole(data):
                waiting[descriptor] = data
                continue
            now = time.perf_counter()
            if now > first:
                times.append(now - sent[descriptor])
            waiting[descriptor], sent[descriptor] = b"", now
            stream.send(request)
    for stream in streams.values():
        stream.close()
    milliseconds = {f"p{percent}": percentile(times, percent) * 1e3 for percent in (50, 99)}
    return {"rate": len(times) / seconds, **milliseconds}


def is_whole(data: bytes) -> bool:
    """Whether an answer is complete; raises unless it is a 202."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not data.startswith(b"HTTP/1.1 202"):
        message = f"Unexpected answer: {data!r}"
        raise ConnectionError(message)
    at = head.lower().find(b"content-length:")
    return bool(separator) and at >= 0 and len(body) >= int(head[at + 15 :].partition(b"\r\n")[0])


if __name__ == "__main__":
    given = sys.stdin.buffer.read()
    print(json.dumps(measure(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), given)))
