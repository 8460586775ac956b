"""How our server sends: the head of an answer and its body together."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

LARGEST = 64 * 1024
"""Bytes that are not kept back for any company."""


class Together(asyncio.Transport):
    """A transport that sends what is written in one turn of the loop in one go: half as many packets, system calls,
    and wake-ups of the client.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send it, at the end of this turn."""
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(bytes(data))
        self._size += len(data)
        if self._size > LARGEST:
            self._send()

    def close(self) -> None:
        """Close when all is sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._written:
            data = b"".join(self._written)
            self._written.clear()
            self._size = 0
            if not self._transport.is_closing():  # the client may have left since
                self._transport.write(data)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Let what comes wait."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The inverse of `pause_reading`."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what comes to another protocol."""
        self._transport.set_protocol(protocol)


class Protocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """uvicorn's protocol on such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin with a connection."""
        super().connection_made(Together(transport, self.loop))
