"""Where the code of a running job is at one moment, as its worker found it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

from heavylift.core import codec


class Source(StrEnum):
    """Who wrote a stack."""

    INTERPRETER = "interpreter"
    """Its Python interpreter: complete, with the text of the lines."""
    SIGNAL = "signal"
    """The interpreter did not answer, because native code has it or waits in the kernel, so the signal's handler in C
    wrote down where Python was when it called that.
    """
    NONE = "none"
    """Nobody: the attempt has not begun, or its process runs nothing at all now."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the kernel sees it. `state` is its letter in ps (R runs, S sleeps, D waits for a device, T is
    stopped, Z is dead), `wait` the kernel's function in which it sleeps, None where that is not known; `cpu` seconds,
    `memory` resident bytes.
    """

    pid: int
    command: str
    state: str
    wait: str | None
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Stack:
    """Where an attempt's code was at `at` (Unix seconds): `text` with the most recent call last, empty when none of
    the task's Python code was running; its process, and what that has started (`children`, their children too).
    """

    at: float
    attempt: int
    source: Source
    text: str = ""
    process: Process | None = None
    children: tuple[Process, ...] = ()


def written(stack: Stack) -> bytes:
    """A stack as JSON bytes."""
    return codec.encode(asdict(stack))


def read(data: bytes) -> Stack:
    """The inverse of `written`."""
    fields = codec.decode(data)
    process = fields["process"]
    children = tuple(Process(**child) for child in fields["children"])
    found = None if process is None else Process(**process)
    return Stack(fields["at"], fields["attempt"], Source(fields["source"]), fields["text"], found, children)
