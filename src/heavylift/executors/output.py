"""In the worker: what a host writes to its standard output and error, kept as a tail and passed on."""

from __future__ import annotations

import asyncio
import os
import select

TAIL = 4096
CHUNK = 64 * 1024
SLICE = 4096
"""Not more than PIPE_BUF: a descriptor that polls writable takes so much without blocking."""
BURST, RATE = 2**20, 64 * 1024
"""Bytes of one host that are passed on at once, and bytes a second after that."""


class Output:
    """A pipe from one host."""

    def __init__(self) -> None:
        self.total = 0
        """Bytes that came so far."""
        self._loop = asyncio.get_running_loop()
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        self._tail = b""
        self._allowed, self._allowed_at = float(BURST), self._loop.time()
        self._left_out = 0
        self._loop.add_reader(self._read_end, self._readable)

    def tail(self, since: int = 0) -> str:
        """The last 4 KiB of what came after the first `since` bytes, as text, and how much was before that."""
        new = self.total - since
        kept = self._tail[-new:] if new else b""
        text = kept.decode(errors="replace")
        return text if new <= TAIL else f"… {new - len(kept):,} bytes before this are left out …\n{text}"

    def close_write_end(self) -> None:
        """The host has its own by now."""
        os.close(self.write_end)

    def drain(self) -> None:
        """Read what is left."""
        while self._read():
            pass

    def close(self) -> None:
        """Give the pipe back."""
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        self._tell_what_is_left_out()

    def _readable(self) -> None:
        if self._read() is False:
            self._loop.remove_reader(self._read_end)

    def _read(self) -> bool | None:
        """True: something came; None: nothing is there now; False: nothing comes any more."""
        try:
            data = os.read(self._read_end, CHUNK)
        except BlockingIOError:
            return None
        if not data:
            return False
        self.total += len(data)
        self._tail = (self._tail + data)[-TAIL:]
        self._pass_on(data)
        return True

    def _pass_on(self, data: bytes) -> None:
        """To our own standard error: not more than an operator's log can bear."""
        now = self._loop.time()
        self._allowed = min(BURST, self._allowed + (now - self._allowed_at) * RATE)
        self._allowed_at = now
        if len(data) > self._allowed:
            self._left_out += len(data)
            return
        self._allowed -= len(data)
        self._tell_what_is_left_out()
        for first in range(0, len(data), SLICE):
            if not _written(data[first : first + SLICE]):
                self._left_out += len(data) - first
                return

    def _tell_what_is_left_out(self) -> None:
        note = f"\n[heavylift: {self._left_out:,} bytes of a host's output are left out here]\n"
        if self._left_out and _written(note.encode()):
            self._left_out = 0


def _written(data: bytes) -> bool:
    """Whether it was written to our standard error: the worker must not wait for a reader of its log."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        return bool(poll.poll(0)) and os.write(2, data) == len(data)
    except OSError:
        return False  # no standard error
