"""In the worker: the Python stacks that a host writes when it is asked for them, or dies by a signal."""

from __future__ import annotations

import os
import re

LONGEST = 64 * 1024
_FATAL = re.compile(r"^Fatal Python error: .*", re.DOTALL | re.MULTILINE)
_OWN = re.compile(r'  File ".*/heavylift/executors/(host|providing|providing_async|shared|shared_runs)\.py"')


def clear(memory: int) -> None:
    """Forget what stands in a host's file of stacks."""
    os.ftruncate(memory, 0)
    os.lseek(memory, 0, os.SEEK_SET)


def dump(memory: int, longest: int = LONGEST) -> str:
    """What the signal's handler in C wrote there, the most recent call first; at most so many bytes."""
    return os.pread(memory, longest, 0).rstrip(b"\0").decode(errors="replace")


def written(memory: int) -> str | None:
    """The stacks that stand there, the most recent call first, without the frames of our own; None: there are none."""
    text = dump(memory)
    return without_own(text) if text else None


def of_death(text: str | None) -> str | None:
    """What the interpreter wrote when a signal killed it, or a fault of its own; None: it wrote nothing."""
    found = None if text is None else _FATAL.search(text)
    return None if found is None else without_own(found.group())


def without_own(text: str) -> str:
    """Stacks without the frames through which a host has called the task, and those below."""
    lines, below = [], False
    for line in text.splitlines():
        is_frame = line.startswith("  File ")
        below = is_frame and (below or _OWN.match(line) is not None)
        if not below:
            lines.append(line)
    return "\n".join(lines).strip()
