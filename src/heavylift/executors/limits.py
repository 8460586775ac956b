"""In a host: the limits that the kernel keeps for the time of one job, and how an error tells that one was met."""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING, NamedTuple

from heavylift.executors import processes
from heavylift.executors.stopping import causes

if TYPE_CHECKING:
    from heavylift.executors.wire import Limits


class Met(NamedTuple):
    """A limit that an error is about: the code of the failure, and a text that goes behind the error's own."""

    code: str
    text: str


class Imposed:
    """Limits in force, from `impose` to `lift`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._before: dict[int, tuple[int, int]] = {}
        self._niceness: int | None = None
        self.worn = False
        """This process has to stay as nice as it was made."""

    def impose(self) -> Met | None:
        """Let them hold for this process and what it starts from now on; else nothing is changed: why they cannot."""
        limits = self._limits
        if limits.address_space and (taken := processes.address_space()) >= limits.address_space:
            text = (
                f"Its address_space is {limits.address_space:,} bytes, and the host has mapped {taken:,} before the"
                " job begins. Give more, or limit `memory`, which counts what is in use."
            )
            return Met("memory-limit", text)
        files = _with_free(limits.open_files) if limits.open_files else 0
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most != resource.RLIM_INFINITY and files > most:
            text = f"Its open_files is {limits.open_files:,}, and this machine allows a process {most:,} at most."
            return Met("open-files-limit", text)
        self._bound(resource.RLIMIT_AS, limits.address_space)
        self._bound(resource.RLIMIT_NOFILE, files)
        if limits.nice:
            self._niceness = os.getpriority(os.PRIO_PROCESS, 0)
            processes.be_nice(limits.nice)
        return None

    def lift(self) -> None:
        """Let things be as before."""
        while self._before:
            resource.setrlimit(*self._before.popitem())
        before, self._niceness = self._niceness, None
        if before is not None:
            self.worn = not processes.be_as_nice_as(before)

    def met_by(self, error: BaseException) -> Met | None:
        """The limit that led to this error; they are lifted, since to tell of it may take what one of them forbids."""
        self.lift()
        limits = self._limits
        for cause in causes(error):
            number = cause.errno if isinstance(cause, OSError) else None
            if limits.address_space and (isinstance(cause, MemoryError) or number == errno.ENOMEM):
                text = f"the attempt reached its address_space of {limits.address_space:,} bytes"
                return Met("memory-limit", text)
            if limits.open_files and number == errno.EMFILE:
                return Met("open-files-limit", f"the attempt reached its limit of {limits.open_files:,} open_files")
        return None

    def _bound(self, which: int, limit: int) -> None:
        if limit:
            self._before[which] = before = resource.getrlimit(which)
            most = before[1]
            resource.setrlimit(which, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def _with_free(count: int) -> int:
    """The limit below which so many descriptors are free: those that are open already are nobody's fault."""
    limit = count
    for descriptor in sorted(processes.descriptors()):
        if descriptor >= limit:
            break
        limit += 1
    return limit
