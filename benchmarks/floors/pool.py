"""The least pool: an asyncio supervisor and forked children over socketpairs, many no-op jobs to one wake-up.

It cannot stop a job, starts no child anew, and knows no timeout: that is what makes it a floor.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import struct
import time
from collections import deque
from typing import Any

import msgspec

from benchmarks.floors.work import noop

HEADER = struct.Struct("<I")
SOON = 50e-6
"""A child answers at once after a job that took longer than so many seconds; answers of shorter ones share a write."""
FULL = 16384

Result = asyncio.Future[Any]


class Request(msgspec.Struct, array_like=True):
    """One job."""

    id: int
    value: Any


class Answer(msgspec.Struct, array_like=True):
    """What came of it."""

    id: int
    value: Any


encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


def serve(stream: socket.socket) -> None:
    """The child: read what there is, run it, answer; never returns."""
    rest = b""
    while data := stream.recv(65536):
        buffer = rest + data
        position, size = 0, 0
        answers: list[bytes] = []
        while (frame := _frame(buffer, position)) is not None:
            position += HEADER.size + len(frame)
            began = time.perf_counter()
            request = decode_request(frame)
            answer = encode(Answer(request.id, noop(request.value)))
            answers += (HEADER.pack(len(answer)), answer)
            size += len(answer)
            if size > FULL or time.perf_counter() - began > SOON:
                stream.sendall(b"".join(answers))
                answers, size = [], 0
        rest = buffer[position:]
        if answers:
            stream.sendall(b"".join(answers))
    os._exit(0)


class Child(asyncio.Protocol):
    """The supervisor's side of a child."""

    def __init__(self, pool: Pool, pid: int) -> None:
        self.pid = pid
        self.in_flight: dict[int, Result] = {}
        self._pool = pool
        self._rest = b""
        self._out: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what we write to."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers."""
        buffer = self._rest + data if self._rest else data
        position, in_flight = 0, self.in_flight
        while (frame := _frame(buffer, position)) is not None:
            position += HEADER.size + len(frame)
            answer = decode_answer(frame)
            in_flight.pop(answer.id).set_result(answer.value)
        self._rest = buffer[position:]
        self._pool.pump()

    def send(self, number: int, value: Any, result: Result) -> None:
        """Put a job into what is written next."""
        self.in_flight[number] = result
        request = encode(Request(number, value))
        self._out += (HEADER.pack(len(request)), request)

    def flush(self) -> None:
        """Write what was put together."""
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out = []


class Pool:
    """Two children or more, each with up to `depth` jobs in its socket."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._waiting: deque[tuple[int, Any, Result]] = deque()
        self._children: list[Child] = []
        self._number = 0
        self._pumping = False

    async def start(self, count: int) -> None:
        """Fork the children."""
        for _ in range(count):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                ours.close()
                signal.set_wakeup_fd(-1)
                serve(theirs)
            theirs.close()
            ours.settimeout(0)
            loop = asyncio.get_running_loop()
            _, child = await loop.create_unix_connection(functools.partial(Child, self, pid), sock=ours)
            self._children.append(child)

    def submit(self, value: Any) -> Result:
        """The result of a job, to come."""
        loop = asyncio.get_running_loop()
        result = loop.create_future()
        self._number += 1
        self._waiting.append((self._number, value, result))
        if not self._pumping:
            self._pumping = True
            loop.call_soon(self.pump)
        return result

    def pump(self) -> None:
        """Hand out what waits: one each in turn, to the least loaded first."""
        self._pumping = False
        waiting = self._waiting
        for depth in range(self._depth):
            if not waiting:
                break
            for child in self._children:
                if waiting and len(child.in_flight) <= depth:
                    child.send(*waiting.popleft())
        for child in self._children:
            child.flush()

    def close(self) -> None:
        """Kill the children."""
        for child in self._children:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)


def _frame(buffer: bytes, position: int) -> bytes | None:
    """The body of the frame that begins there, if it is whole."""
    begin = position + HEADER.size
    if len(buffer) < begin:
        return None
    (length,) = HEADER.unpack_from(buffer, position)
    return buffer[begin : begin + length] if len(buffer) >= begin + length else None
