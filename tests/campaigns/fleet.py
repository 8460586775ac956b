"""`heavylift serve` as a user starts it, its processes by their parts, and ways to kill them at chosen moments."""

import contextlib
import mmap
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROBE = ROOT / "tests/system/probe"
"""Makes each process say where it is in its writing."""
PHASES = {0: "elsewhere", 1: "in a commit", 2: "between commit and wake-up"}


class Fleet:
    """A server with its worker, nanny and hosts; started again whenever the server itself was killed."""

    def __init__(self, folder: Path, target: str = "tests.campaigns.jobs:lift", **variables: str) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/jobs.db"
        self.port = free_port()
        self.kills: Counter[str] = Counter()
        self.process: subprocess.Popen[bytes] | None = None
        self._target = target
        self._variables = variables
        self._log = (folder / "serve.log").open("ab")

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("heavylift")), "serve", self._target]
        environment = os.environ | {
            "AUDIT_FILE": str(self.folder / "audit"),
            "PHASES_FOLDER": str(self.folder),
            "PYTHONPATH": f"{PROBE}:{ROOT}",
            **self._variables,
        }
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--store", self.url],
            cwd=ROOT,
            env=environment,
            stdout=self._log,
            stderr=self._log,
        )

    @property
    def pid(self) -> int:
        """The server's."""
        assert self.process is not None
        return self.process.pid

    def tree(self) -> dict[str, list[int]]:
        """The living processes by their part: serve, worker, nanny, host."""
        assert self.process is not None
        if self.process.poll() is not None:
            self.start()
        found: dict[str, list[int]] = {"serve": [self.process.pid], "worker": [], "nanny": [], "host": []}
        found["worker"] = children(self.process.pid)
        # Hosts are children of the nanny, or of the worker, which adopts those of a dead nanny.
        below = [child for pid in found["worker"] for child in children(pid)]
        for pid in below + [child for parent in below for child in children(parent)]:
            part = name_of(pid).removeprefix("heavylift-")
            if part in ("nanny", "host") and is_alive(pid):
                found[part].append(pid)
        return found

    def kill(self, part: str, wanted: int | None = None) -> int | None:
        """Kill one process of a part: at once, or (who writes) in a phase of its writing.

        Its pid; None while not all parts are there.
        """
        tree = self.tree()
        if not all(tree.values()):
            return None
        pid = random.choice(tree[part])
        phase = 0
        with contextlib.suppress(ProcessLookupError):
            if wanted is not None:
                phase = self._stopped_in(pid, wanted)
            running = bool(unfinished(self.folder / "audit"))
            os.kill(pid, signal.SIGKILL)
            self.kills[part] += 1
            self.kills["while jobs ran"] += running
            if phase:
                self.kills[PHASES[phase]] += 1
        if part == "serve":
            assert self.process is not None
            self.process.wait()
            self.start()
        return pid

    def _stopped_in(self, pid: int, wanted: int) -> int:
        """Stop a process in the phase that is wanted, or after a while in any; the phase that it was caught in."""
        path = self.folder / f"phase-{pid}"
        if not path.exists():
            return 0
        with path.open("rb") as file, mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ) as page:
            end = time.monotonic() + 2
            while time.monotonic() < end:
                if page[0] != wanted:
                    continue
                os.kill(pid, signal.SIGSTOP)
                while stat_of(pid)[0] == "R":
                    pass
                if page[0] == wanted:
                    return wanted
                os.kill(pid, signal.SIGCONT)
            return 0

    def stop(self) -> int:
        """Stop it as a service manager does; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def close(self) -> None:
        """Leave nothing behind, however the campaign ended."""
        if self.process is not None and self.process.poll() is None:
            for pids in self.tree().values():
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self._log.close()

    def left_over(self) -> list[int]:
        """Living processes that were started by this fleet's, by what they have in their environment."""
        return processes_with(f"AUDIT_FILE={self.folder / 'audit'}\0")


def unfinished(path: Path) -> dict[str, int]:
    """The attempt that each job has begun last, of those whose last one wrote its start and not its end."""
    latest: dict[str, tuple[int, bool]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        kind, job, attempt = line.split()[:3]
        if kind in ("start", "end"):
            latest[job] = max(latest.get(job, (0, False)), (int(attempt), kind == "end"))
    return {job: attempt for job, (attempt, ended) in latest.items() if not ended}


def processes_with(variable: str) -> list[int]:
    """Living processes other than this one whose environment has this."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if variable.encode() in (folder / "environ").read_bytes() and is_alive(int(folder.name)):
                    found.append(int(folder.name))
    return found


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def stat_of(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return re.split(r"\s+", Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2])
    return ["X"]


def is_alive(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    return stat_of(pid)[0] not in "ZX"


def zombies(pid: int) -> list[int]:
    """Dead children that a process has not reaped."""
    return [child for child in children(pid) if stat_of(child)[0] == "Z"]


def resident(pid: int) -> int:
    """Bytes of memory that a process has of its own: private and not shared with its parent."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(1024 * int(found) for found in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))


def descriptors(pid: int) -> int:
    """How many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
