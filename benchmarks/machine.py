"""The machine: what it is, what others took of it meanwhile, and what our processes take."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 2**20
PACKAGES = ("heavylift", "pydantic", "uvicorn", "msgspec", "saq")


def head() -> dict[str, str]:
    """The machine and the versions."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = []
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages.append(f"{name} {metadata.version(name)}")
    return {
        "machine": f"{_processor()}, {cores} cores, {memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "packages": ", ".join(packages),
        "at": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


class Foreign:
    """What other processes took of the CPUs in a `with` block, and what the hypervisor stole, in percent of a core."""

    def __init__(self) -> None:
        self.percent = 0.0
        self.steal = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._before = (*_machine_cpu(), tree_cpu(os.getpid()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.monotonic() - self._began
        busy, stolen = _machine_cpu()
        ours = tree_cpu(os.getpid()) - self._before[2]
        self.percent = max(0.0, busy - self._before[0] - ours) / seconds * 100
        self.steal = (stolen - self._before[1]) / seconds * 100

    def __str__(self) -> str:
        return f"foreign CPU {self.percent:.0f} % of a core, steal {self.steal:.0f} %"


def _machine_cpu() -> tuple[float, float]:
    """Seconds that all CPUs were busy, and that were stolen."""
    first = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _idle, _wait, irq, soft, steal, *_ = map(int, first.split()[1:])
    return (user + nice + system + irq + soft) / TICKS, steal / TICKS


def tree(pid: int) -> Iterator[int]:
    """The process and all its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from tree(int(child))


def tree_cpu(pid: int) -> float:
    """CPU seconds of the process and its descendants, those that were waited for included."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            after_name = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2]
            total += sum(map(int, after_name.split()[11:15]))
    return total / TICKS


def cpu(pid: int) -> float:
    """CPU seconds of one process, precisely; 0 when it is gone."""
    with contextlib.suppress(OSError):
        # clock_getcpuclockid(3): the clock of another process.
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def memory(pid: int) -> dict[str, float]:
    """MiB of a process: `rss`, `pss` (shared pages by their share) and `uss` (its own alone)."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        fields[name.rstrip(":")] = int(size) / 1024
    own = fields["Private_Clean"] + fields["Private_Dirty"]
    return {"rss": fields["Rss"], "pss": fields["Pss"], "uss": own}
