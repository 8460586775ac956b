"""In the worker: what a host writes to its standard output and error, kept as a tail and passed on."""

from __future__ import annotations

import asyncio
import logging
import os
import select

TAIL = 4096
CHUNK = 4096
"""Not more than PIPE_BUF: a descriptor that polls writable takes so much without blocking."""

LONGEST_LINE = 16 * 1024

log = logging.getLogger("heavylift.output")
"""What hosts write, line by line, where all lines of this process have one format; else it is passed on as it comes."""


class Output:
    """A pipe from one host."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        self._tail = self._rest = b""
        self.pid = 0
        """The host's."""
        self._loop.add_reader(self._read_end, self._readable)

    def tail(self) -> str:
        """The last 4 KiB, as text."""
        return self._tail.decode(errors="replace")

    def close_write_end(self) -> None:
        """The host has its own by now."""
        os.close(self.write_end)

    def drain(self) -> None:
        """Read what is left."""
        while self._read():
            pass
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def close(self) -> None:
        """Give the pipe back."""
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)

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
        self._tail = (self._tail + data)[-TAIL:]
        if log.isEnabledFor(logging.INFO):
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > LONGEST_LINE:
                lines, self._rest = [*lines, self._rest], b""
            for line in lines:
                self._tell(line)
        else:
            _pass_on(data)
        return True

    def _tell(self, line: bytes) -> None:
        """A line as a record; one that is a JSON object already is passed on as it is."""
        if line.startswith(b"{") and line.rstrip().endswith(b"}"):
            _pass_on(line + b"\n")
        elif line.strip():
            log.info("%s", line.decode(errors="replace"), extra={"host": self.pid})


def _pass_on(data: bytes) -> None:
    """To our own standard error, unless nobody reads that: the worker must not wait for a reader of its log."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        if poll.poll(0):
            os.write(2, data)
    except OSError:
        pass  # no standard error
