"""In the worker: where the code of a run is, by what its host and the kernel say. No run is disturbed, and nothing that
the worker does waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from heavylift.core.stack import Process, Source, Stack
from heavylift.executors import processes, stacks
from heavylift.executors.wire import LOOK_SIGNAL, NUDGE_SIGNAL, SIGHTING, SIGHTING_AT, STACK_SIGNAL, Page

PATIENCE = 3.0
"""Seconds for an interpreter to answer that gets no CPU …"""
CPU = 0.1
"""… but not longer than until it has taken so much CPU time …"""
STILL = 0.5
"""… or has waited in the kernel for so long, with all its threads; then it is the turn of the handler in C, which needs
no interpreter.
"""
HANDLER = 2.0
LOOK = 0.01
"""Seconds between two looks for an answer."""
MOST_CHILDREN = 50
LONGEST_COMMAND = 1000
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FRAME = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)')
_OWN = "/heavylift/executors/"


class Looks:
    """Questions to one host, one after the other. `file` is where it answers, `page` where it is asked."""

    def __init__(self, page: Page, file: int) -> None:
        self._page, self._file = page, file
        self._turn = asyncio.Lock()
        self._number = 0
        self.keep = False
        """What the handler in C writes is to stay: the host is killed, and that is what is told of it."""

    @property
    def busy(self) -> bool:
        """Whether a question is not answered yet."""
        return self._turn.locked()

    async def ask(
        self, run: int, pid: int, pidfd: int, is_there: Callable[[], bool], of_dump: Callable[[str], str]
    ) -> tuple[Source, str] | None:
        """Who said where a run is, and what; `of_dump` finds the run in what the handler in C wrote. None when the run
        is over: `is_there` is asked after each pause.
        """
        async with self._turn:
            if not is_there():
                return None
            self._number += 1
            if not self.keep:
                stacks.clear(self._file)
            self._page.ask(self._number, run)
            _signal(pidfd, LOOK_SIGNAL)
            if not await self._until_answered(pid, pidfd, is_there):
                return None
            answer = self._answer()
            if answer is None:
                have_dumped(pid, pidfd)
                if not await self._until_dumped(pid, is_there):
                    return None
                answer = self._answer()  # it may have come to it meanwhile
            if answer is not None:
                return Source.INTERPRETER, answer
            dump = self._dump()
            return (Source.SIGNAL, of_dump(dump)) if dump else (Source.NONE, "")

    async def _until_answered(self, pid: int, pidfd: int, is_there: Callable[[], bool]) -> bool:
        """Until the interpreter has answered, or will not; False when the run is over."""
        began, cpu, nudged = time.monotonic(), processes.cpu_time(pid), False
        while self._answer() is None:
            waited = time.monotonic() - began
            if waited > PATIENCE or processes.cpu_time(pid) - cpu > CPU:
                break
            if waited > STILL / 2 and not nudged and _read(pid, "wchan").startswith(b"futex"):
                # It waits for a lock. Python does so in a way that can be interrupted, and goes on waiting.
                nudged = True
                _signal(pidfd, NUDGE_SIGNAL)
            if waited > STILL and not wants_cpu(pid):
                break
            await asyncio.sleep(LOOK)
            if not is_there():
                return False
        return True

    async def _until_dumped(self, pid: int, is_there: Callable[[], bool]) -> bool:
        deadline, before = time.monotonic() + HANDLER, ""
        while time.monotonic() < deadline:
            await asyncio.sleep(2 * LOOK)
            if not is_there():
                return False
            dump = self._dump()
            if dump and dump == before and not is_dumping(pid):
                break
            before = dump
        return True

    def _answer(self) -> str | None:
        """What the interpreter said to the last question."""
        head = os.pread(self._file, SIGHTING.size, SIGHTING_AT)
        if len(head) < SIGHTING.size:
            return None
        number, length = SIGHTING.unpack(head)
        begin = SIGHTING_AT + SIGHTING.size
        if number != self._number or os.fstat(self._file).st_size < begin + length:
            return None
        return os.pread(self._file, length, begin).decode(errors="replace")  # it may be cut within a character

    def _dump(self) -> str:
        """What the handler in C wrote."""
        return stacks.dump(self._file, SIGHTING_AT)


def have_dumped(pid: int, pidfd: int) -> None:
    """Have the handler in C write, unless it is at it."""
    if not is_dumping(pid):
        _signal(pidfd, STACK_SIGNAL)


def is_dumping(pid: int) -> bool:
    """Whether the handler in C has still to write, or is at it: on a busy machine it may lose its CPU in the middle.

    False also where the code of a job blocks the signal: nobody knows when it will be heard.
    """
    waits, blocked = processes.signal_of(pid, STACK_SIGNAL)
    return waits != blocked


def of_main_thread(dump: str) -> str:
    """Of what the handler in C wrote, the frames of the thread that comes last: the only one, or the main thread."""
    return _turned(dump.strip("\n").split("\n\n")[-1].splitlines())


def of_thread(dump: str, thread: int | None) -> str:
    """Of what the handler in C wrote, the frames of the thread of this identifier."""
    for part in dump.strip("\n").split("\n\n"):
        head, *lines = part.splitlines()
        found = re.search(r"0x([0-9a-f]+)", head)
        if found is not None and int(found[1], 16) == thread:
            return _turned(lines)
    return ""


def _turned(lines: list[str]) -> str:
    """Frames as Python writes them in a traceback, the most recent last, without our own that stand before those of the
    user's.
    """
    frames: list[str] = []
    for line in lines:
        if (found := _FRAME.fullmatch(line)) is None:
            continue
        if _OWN in found[1] and frames:
            break
        if _OWN not in found[1]:
            frames.append(f'  File "{found[1]}", line {found[2]}, in {found[3]}\n')
    return "".join(reversed(frames))


async def seen(attempt: int, source: Source, text: str, pid: int) -> Stack:
    """A stack, with what the kernel says of the process and of what it has started."""
    # The kernel may make who asks for the command of a process wait.
    process, children = await asyncio.to_thread(_family, pid)
    return Stack(time.time(), attempt, source, text, process, children)


def unbegun(attempt: int) -> Stack:
    """Of an attempt that no host has begun."""
    return Stack(time.time(), attempt, Source.NONE)


def _family(pid: int) -> tuple[Process | None, tuple[Process, ...]]:
    found: list[Process] = []
    waiting = sorted(processes.children(pid))
    while waiting and len(found) < MOST_CHILDREN:
        child = waiting.pop(0)
        process = of_kernel(child)
        if process is not None:
            found.append(process)
            waiting += sorted(processes.children(child))
    return of_kernel(pid, by_name=True), tuple(found)


def of_kernel(pid: int, *, by_name: bool = False) -> Process | None:
    """What the kernel says of a process; None when it is gone. A fork has the command of its parent: it is known by its
    name.
    """
    stat = _read(pid, "stat")
    if not stat:
        return None
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    command = (b"" if by_name else _read(pid, "cmdline")).rstrip(b"\0").replace(b"\0", b" ") or name
    wait = _read(pid, "wchan").strip().decode(errors="replace")
    cpu = (int(fields[11]) + int(fields[12])) / _TICK
    return Process(
        pid,
        command.decode(errors="replace")[:LONGEST_COMMAND],
        fields[0].decode(),
        wait if wait not in ("", "0") else None,
        cpu,
        int(fields[21]) * _PAGE,
    )


def wants_cpu(pid: int) -> bool:
    """Whether a thread of a process runs, or would. On a busy machine the main thread may wait for the interpreter's
    lock, and the thread that has it for a CPU.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  path objects take longer than the kernel
    except OSError:
        return False
    return any(_read(pid, f"task/{one}/stat").rpartition(b")")[2].split()[:1] == [b"R"] for one in threads)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _signal(pidfd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
