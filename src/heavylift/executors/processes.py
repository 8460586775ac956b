"""Processes of this machine: who adopts orphans, who dies with whom, and who is left to kill. Linux alone."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_F_SETSIG = 10
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl


def settle_memory() -> None:
    """Give back what the imports left unused, and have the collector never again look at what they made.

    For a process that is ready to work: its collections get short, and the pages of its forks stay shared.
    """
    gc.collect()
    gc.freeze()
    if hasattr(_libc, "malloc_trim"):  # glibc keeps freed memory, musl does not
        _libc.malloc_trim(0)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants whose own parent dies (a subreaper)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_name(name: str) -> None:
    """The name that `ps` and `top` show, at most 15 characters."""
    _prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def die_when_closed(pipe: int) -> None:
    """Let the kernel kill this process's group at once when the last writer of `pipe` closes it or dies.

    It needs nobody's help, so it holds when every other process of ours was killed together with that writer.
    `pipe` must be an open file of this process's own: the setting is the open file's, not the descriptor's.
    """
    fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(pipe, _F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    try:
        closed_before = os.read(pipe, 1) == b""
    except BlockingIOError:
        closed_before = False
    if closed_before:
        os._exit(1)


def be_nice(increment: int) -> None:
    """Lower this process's priority, also where the kernel groups processes by session (autogroup)."""
    niceness = os.nice(increment)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))


def be_as_nice_as(niceness: int) -> bool:
    """Take back what `be_nice` did; whether that is allowed."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except PermissionError:
        return False
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))
    return True


def hurry(pid: int) -> None:
    """Give a nice process its usual share again, as far as we may: one that was killed has to get a CPU to die."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, 0)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("0")


def children(pid: int | str = "self") -> set[int]:
    """The children of a process, those adopted included; dead ones too until they are reaped."""
    found: set[int] = set()
    folder = f"/proc/{pid}/task"
    try:
        threads = os.listdir(folder)  # noqa: PTH208  path objects take longer than the kernel
    except OSError:
        return found
    for thread in threads:
        try:
            found.update(map(int, _read(f"{folder}/{thread}/children").split()))
        except FileNotFoundError:
            if Path(folder, thread).exists():
                return _children_by_search(os.getpid() if pid == "self" else int(pid))
        except OSError:
            continue  # it has ended, or there is no descriptor left to look with: the next look comes soon
    return found


def descendants(pid: int, most: int | None = None) -> set[int]:
    """The processes below a process, dead ones too until they are reaped; the search ends when there are `most`."""
    found: set[int] = set()
    todo = [pid]
    while todo and (most is None or len(found) < most):
        new = children(todo.pop()) - found
        found |= new
        todo += new
    return found


def living(pids: Collection[int]) -> int:
    """How many of these processes are not dead."""
    return sum(1 for pid in pids if (stat := _stat(pid)) and stat[0] not in b"ZX")


def kill(pids: Collection[int]) -> None:
    """Kill these processes, as far as they still are there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def kill_trees(roots: Collection[int]) -> None:
    """Kill these processes and all below them: each before its children are looked for, so that it forks no more."""
    todo, seen = list(roots), set[int]()
    while todo:
        pid = todo.pop()
        kill([pid])
        new = children(pid) - seen
        seen |= new
        todo += new


def kill_children(patience: float, spare: Collection[int] = ()) -> bool:
    """Kill every child but those to `spare`, and those that come up as their parents die, until none is left.

    False if some still are there after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while left := children().difference(spare):
        if time.monotonic() > deadline:
            return False
        kill_trees(left)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.0005)
    return True


def environment_has(pid: int, entry: bytes) -> bool:
    """Whether `entry` (name=value) stood in the environment with which the process's program began."""
    try:
        return entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def session_of_dead(pid: int) -> int | None:
    """The session of a process that is dead and not reaped (its environment cannot be read any more), else None."""
    stat = _stat(pid)
    return int(stat[3]) if stat and stat[0] == b"Z" else None


def cpu_below(pid: int, below: Collection[int]) -> float:
    """CPU seconds of a process's children that it has reaped, and of its descendants `below` with theirs."""
    ticks = 0
    if stat := _stat(pid):
        ticks += sum(map(int, stat[13:15]))
    for one in below:
        if stat := _stat(one):
            ticks += sum(map(int, stat[11:15]))
    return ticks / _TICKS


def _stat(pid: int) -> list[bytes]:
    """What /proc/PID/stat says behind the name: state, parent, group, session …; nothing when it is gone."""
    try:
        return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except OSError:
        return []


def signal_of(pid: int, number: int) -> tuple[bool, bool]:
    """Whether a signal waits for a process, and whether its main thread blocks it: the kernel has it do so while it is
    in the signal's handler.
    """
    waits = blocked = 0
    try:
        lines = _read(f"/proc/{pid}/status").splitlines()
    except OSError:
        return False, False
    for line in lines:
        if line.startswith((b"SigPnd:", b"ShdPnd:")):
            waits |= int(line.split()[1], 16)
        elif line.startswith(b"SigBlk:"):
            blocked = int(line.split()[1], 16)
    bit = 1 << (number - 1)
    return bool(waits & bit), bool(blocked & bit)


def cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time, for time.clock_gettime (as clock_getcpuclockid(3) computes it)."""
    return (~pid << 3) | 2


def cpu_time(pid: int) -> float:
    """The CPU seconds that a process has taken, 0 when it is gone."""
    try:
        return time.clock_gettime(cpu_clock(pid))
    except OSError:
        return 0.0


def resident(pid: int) -> int:
    """The resident bytes of a process, 0 when it is gone."""
    try:
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE_SIZE
    except (OSError, IndexError):
        return 0


def proportional(pid: int) -> int:
    """The resident bytes of a process, of each shared page only its part; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # it is gone, or another user's
    return resident(pid)


def address_space() -> int:
    """The bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * _PAGE_SIZE


def descriptors() -> list[int]:
    """The descriptors that this process has open (and one that was open while they were listed)."""
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]


def exit_meaning(status: int) -> tuple[int | None, str | None]:
    """(exit code, name of the signal) of a wait status; one of them is None."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return None, signal.Signals(number).name
        except ValueError:
            return None, f"signal {number}"
    return os.waitstatus_to_exitcode(status), None


def ending(code: int) -> str:
    """An exit code as `subprocess` gives it, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def cpus() -> int:
    """How many CPUs this process may use: by its affinity and by its cgroup's quota."""
    allowed = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        quota, period = Path(f"/sys/fs/cgroup{group}/cpu.max").read_text().split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    return max(1, allowed)


def _read(path: str) -> bytes:
    """A file of the kernel's, whole, with as few questions as can be."""
    file = os.open(path, os.O_RDONLY)
    try:
        data = b""
        while more := os.read(file, 64 * 1024):
            data += more
        return data
    finally:
        os.close(file)


def _children_by_search(parent: int) -> set[int]:
    """For kernels without CONFIG_PROC_CHILDREN."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1]) == parent:
                    found.add(int(entry.name))
    return found
