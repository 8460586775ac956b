"""What `doctor` says of the machine: pure judgements on what was measured, and the measuring."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from heavylift.core.finding import Finding, fail, ok, warn

MIB = 2**20
GROUPS = Path("/sys/fs/cgroup")
WORKER_FILES, HOST_FILES = 48, 8
"""Descriptors that a worker has without hosts (with a margin for what it opens for a moment), and for each host."""
HOST_OWN_FILES = 96
"""A host keeps its own descriptors from 64 on, out of the way of what jobs do to the first ones."""
DRIFT = 0.05
"""Seconds by which the two clocks may differ over one look: more is a clock that is being set."""
FUTURE = 5.0
"""Seconds by which a job may be younger than now, as its machine's clock and ours differ."""
BEGINNING = 1_767_225_600.0
"""2026-01-01: an earlier time is no time, but a clock that was never set."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine has for jobs. Bytes; None: no limit. `quota` CPUs of the cgroup, `files` descriptors a process."""

    cpus: int
    quota: float | None
    memory: int
    available: int
    memory_limit: int | None
    files: int | None


def look() -> Machine:
    """This machine, as this process may use it."""
    total, available = _memory()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    bound, used = _memory_group()
    return Machine(
        len(os.sched_getaffinity(0)),
        _quota(),
        total,
        available if bound is None else min(available, max(0, bound - used)),
        bound,
        None if limit == resource.RLIM_INFINITY else limit,
    )


def usable_cpus(machine: Machine) -> int:
    """How many hosts a pool has by default."""
    quota = machine.cpus if machine.quota is None else round(machine.quota)
    return max(1, min(machine.cpus, quota))


def cores(machine: Machine, hosts: int) -> Finding:
    """Whether there is a core for each job that runs at the same time."""
    usable = machine.cpus if machine.quota is None else min(float(machine.cpus), machine.quota)
    group = "" if machine.quota is None else f", {machine.quota:g} by the cgroup's quota"
    what = f"{machine.cpus} by affinity{group}; {hosts} jobs at the same time"
    if hosts > usable and usable < machine.cpus and hosts > 1:
        return warn("cores", what, f"The quota slows all of them down: set --concurrency {max(1, int(usable))}.")
    if hosts > usable * 4:
        return warn("cores", what, f"For work that burns CPU set --concurrency {max(1, int(usable))}.")
    return ok("cores", what)


def memory(machine: Machine, hosts: int, host_size: int | None, measured: str) -> Finding:
    """Whether all hosts fit; `host_size` bytes of one, `measured` where."""
    limit = "" if machine.memory_limit is None else f", cgroup limit {amount(machine.memory_limit)}"
    what = f"{amount(machine.available)} free of {amount(machine.memory)}{limit}"
    if host_size is None:
        return ok("memory", f"{what}; the size of a host is known when a worker runs here, or with APP")
    need = hosts * host_size
    what += f"; {hosts} hosts × {amount(host_size)} ({measured}) = {amount(need)}"
    if need > machine.available:
        fitting = max(1, machine.available // max(1, host_size))
        step = f"Set --concurrency {fitting}, or give more memory; jobs need memory of their own besides."
        return fail("memory", what, step)
    if need > machine.available * 0.8:
        return warn("memory", what, "Little is left for what the jobs themselves take: set a lower --concurrency.")
    return ok("memory", what)


def files(machine: Machine, hosts: int) -> Finding:
    """Whether the limit of open files lets the pool start."""
    need = max(WORKER_FILES + HOST_FILES * hosts, HOST_OWN_FILES)
    if machine.files is None:
        return ok("files", f"no limit; a worker with {hosts} hosts needs {need}")
    what = f"limit {machine.files:,}; a worker with {hosts} hosts needs {need}"
    step = f"ulimit -n {max(1024, need * 2)}, or LimitNOFILE= of its service."
    if machine.files < need:
        return fail("files", what, step)
    if machine.files < need * 2:
        return warn("files", f"{what}, and jobs open files, too", step)
    return ok("files", what)


def clock(wall: float, drift: float, newest: float | None) -> Finding:
    """Whether the time can be what it seems. `drift`: seconds between the two clocks over one look; `newest`: when the
    newest job was made.
    """
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall))
    step = "Set the clock, and keep it right: timedatectl set-ntp true, or chronyd."
    if wall < BEGINNING:
        return fail("clock", f"it says {shown}", step)
    if newest is not None and newest > wall + FUTURE:
        what = f"it says {shown}, and a job was made {newest - wall:.0f} s later than that"
        return warn("clock", what, f"The clock went back, or another machine's is ahead. {step}")
    if abs(drift) > DRIFT:
        return warn("clock", f"it says {shown}, and went {drift:+.2f} s against the monotonic clock just now", step)
    return ok("clock", f"{shown}; it goes as the monotonic clock does")


def amount(size: float) -> str:
    """Bytes as people read them."""
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / MIB:.{0 if size >= 100 * MIB else 1}f} MiB"


def host_size(pids: list[int]) -> int | None:
    """Bytes of the largest host of these workers: its share of what is shared, and all of its own (PSS)."""
    sizes = []
    for worker in pids:
        for nanny in _children(worker):
            for child in _children(nanny):
                with suppress(OSError, StopIteration, ValueError):
                    if Path(f"/proc/{child}/comm").read_text(encoding="utf-8").strip() == "heavylift-host":
                        sizes.append(_field(Path(f"/proc/{child}/smaps_rollup"), "Pss"))
    return max(sizes, default=None)


def own_size() -> int | None:
    """Bytes that this process has of its own: what a host has at most when its application was imported here."""
    with suppress(OSError, StopIteration, ValueError):
        return _field(Path("/proc/self/status"), "RssAnon")
    return None


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def _field(path: Path, name: str) -> int:
    """A field of a file of /proc, which counts in kB."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024


def _memory() -> tuple[int, int]:
    path = Path("/proc/meminfo")
    return _field(path, "MemTotal"), _field(path, "MemAvailable")


def _group() -> Path:
    """The folder of this process's cgroup (version 2)."""
    with suppress(OSError):
        return GROUPS / Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("::")[2].strip().lstrip("/")
    return GROUPS


def _quota(group: Path | None = None) -> float | None:
    """CPUs that the cgroup and those around it allow at most."""
    found = []
    for folder in _upward(group):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _memory_group(group: Path | None = None) -> tuple[int | None, int]:
    """The tightest limit of memory of the cgroup and those around it, and how much of it is used."""
    found = []
    for folder in _upward(group):
        with suppress(OSError, ValueError):
            limit = int((folder / "memory.max").read_text(encoding="ascii"))
            found.append((limit, int((folder / "memory.current").read_text(encoding="ascii"))))
    return min(found, key=lambda item: item[0] - item[1], default=(None, 0))


def _upward(group: Path | None) -> list[Path]:
    group = group or _group()
    return [group, *[folder for folder in group.parents if folder.is_relative_to(GROUPS)]]
