"""For tests of what a process does that has no descriptors left."""

import contextlib
import os
import resource
from pathlib import Path


def descriptors():
    """Those that this process has open."""
    return {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}


@contextlib.contextmanager
def only(spare):
    """No more descriptors than these can be opened by this process."""
    highest = max(descriptors())
    fillers = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    while fillers[-1] < highest:
        fillers.append(os.dup(fillers[-1]))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for filler in fillers:
            os.close(filler)
