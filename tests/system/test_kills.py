"""Whatever is killed, whenever: every accepted job ends in exactly one final state, and none runs after its end.

The auditor reads what the jobs themselves wrote, and compares it with what the store says.
"""

import asyncio
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

import pytest
from tests.system.service import ROOT, until

from heavylift import State
from heavylift.client import Client
from heavylift.core.errors import StoreUnavailable
from heavylift.core.options import PLACES, Options
from heavylift.core.retry import Retry, fixed
from heavylift.store import SystemClock
from heavylift.stores import open_store

JOBS = int(os.environ.get("KILL_JOBS", "150"))
PHASES = {0: "elsewhere", 1: "in a commit", 2: "between commit and wake-up"}


class Serve:
    """`heavylift serve` as a user starts it; started again whenever it was killed."""

    def __init__(self, folder: Path, url: str) -> None:
        self.port = free_port()
        self.kills: Counter[str] = Counter()
        self._folder, self._url = folder, url
        self._log = (folder / "serve.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("heavylift")), "serve", "tests.system.jobs:lift"]
        options = ["--port", str(self.port), "--store", self._url, "--concurrency", "2"]
        environment = os.environ | {
            "AUDIT_FILE": str(self._folder / "audit"),
            "PHASES_FOLDER": str(self._folder),
            # Few at a time: a loss of all that a dead worker held makes each of them wait, and longer each time.
            "HEAVYLIFT_COROUTINES": "2",
            "HEAVYLIFT_THREADS": "2",
            "PYTHONPATH": f"{ROOT / 'tests/system/probe'}:{ROOT}",
        }
        self._process = subprocess.Popen(
            [*command, *options], cwd=ROOT, env=environment, stdout=self._log, stderr=self._log
        )

    def tree(self) -> dict[str, list[int]]:
        """The living processes by their part: serve, worker, nanny, hosts."""
        assert self._process is not None
        if self._process.poll() is not None:
            self.start()
        found: dict[str, list[int]] = {"serve": [self._process.pid], "worker": [], "nanny": [], "host": []}
        found["worker"] = children(self._process.pid)
        # Hosts are children of the nanny, or of the worker, which adopts those of a dead nanny.
        below = [child for pid in found["worker"] for child in children(pid)]
        for pid in below + [child for parent in below for child in children(parent)]:
            part = name_of(pid).removeprefix("heavylift-")
            if part in ("nanny", "host"):
                found[part].append(pid)
        return found

    def kill(self, part: str, wanted: int | None) -> None:
        """Kill one process of a part: at once, or (the worker) in a phase of its writing."""
        tree = self.tree()
        if not all(tree.values()):
            return  # it is starting: let it come to work first
        pid = random.choice(tree[part])
        phase = 0
        with contextlib.suppress(ProcessLookupError):
            if wanted is not None:
                phase = self._stopped_in(pid, wanted)
            running = self.running()
            os.kill(pid, signal.SIGKILL)
            self.kills[part] += 1
            self.kills["while jobs ran"] += bool(running)
            if phase:
                self.kills[PHASES[phase]] += 1
        if part == "serve":
            assert self._process is not None
            self._process.wait()
            self.start()

    def _stopped_in(self, pid: int, wanted: int) -> int:
        """Stop a process in the phase that is wanted, or after a while in any; the phase that it was caught in."""
        path = self._folder / f"phase-{pid}"
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

    def running(self) -> int:
        """Attempts that wrote their start and not their end."""
        lines = [tuple(line.split()[:3]) for line in read(self._folder / "audit")]
        return len(
            {line[1:] for line in lines if line[0] == "start"} - {line[1:] for line in lines if line[0] == "end"}
        )

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def close(self) -> None:
        """Leave nothing behind, however the test ended."""
        assert self._process is not None
        if self._process.poll() is None:
            for pids in self.tree().values():
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


@pytest.mark.timeout(max(400, 3 * JOBS))
async def test_jobs_survive_the_death_of_every_process_at_any_moment(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/jobs.db"
    serve = Serve(tmp_path, url)
    serve.start()
    client = Client(open_store(url), SystemClock())
    ids = [f"job-{number}" for number in range(JOBS)]
    options = Options(retry=Retry(3, fixed(0.05)), crashes=20)
    try:
        await client.open()
        submits = asyncio.create_task(submit(client, ids, options))
        plan = ["host"] * 4 + ["nanny"] * 2 + ["worker"] * 2 + ["serve"]
        ended = 0
        while not submits.done() or not await all_final(client):
            await asyncio.sleep(random.uniform(0.01, 0.15))
            # On a busy machine no life between two kills would be long enough: something ends first, or time passes.
            ended = await more_ended(client, ended, 1.5)
            part = random.choice(plan)
            wanted = random.choice([None, 1, 1, 2, 2, 2]) if part in ("worker", "serve") else None
            await asyncio.to_thread(serve.kill, part, wanted)
        await submits
        # Time for whoever would wrongly start one again: two sweeps of a worker that lives.
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 2 * 5.0 + 1, 60)
        await audit(client, ids, tmp_path)
        assert serve.stop() == 0
    finally:
        serve.close()
        await client.close()
    with capsys.disabled():
        print(f"\n{JOBS} jobs, kills: {dict(serve.kills)}")
    assert serve.kills["while jobs ran"] > 0


async def submit(client: Client, ids: list[str], options: Options) -> None:
    """Submit in small batches, again after a refusal: the ids make that safe."""
    for at in range(0, len(ids), 10):
        batch = ids[at : at + 10]
        requests = [request(at + n, options) for n in range(len(batch))]
        while True:
            try:
                await client.submit(requests, batch)
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)


def request(number: int, options: Options) -> tuple[str, bytes, Options]:
    """Of three jobs one runs in a process, one in a thread and one on a loop."""
    place = PLACES[number % 3]
    # Short beside others: what shares the cores must be able to end before the next kill.
    seconds = random.uniform(0.005, 0.2 if place == "process" else 0.03)
    arguments = f'{{"number":{number},"seconds":{seconds:.4f}}}'.encode()
    return "work_awaiting" if place == "loop" else "work", arguments, options.using(run_in=place)


async def more_ended(client: Client, before: int, seconds: float) -> int:
    """How many jobs are over: more than before, unless so many seconds pass."""
    deadline = time.monotonic() + seconds
    while True:
        queues = await client.queues()
        ended = sum(count for queue in queues for state, count in queue.counts.items() if State(state).final)
        if ended > before or time.monotonic() > deadline:
            return ended
        await asyncio.sleep(0.01)


async def all_final(client: Client) -> bool:
    for queue in await client.queues():
        if any(count for state, count in queue.counts.items() if not State(state).final):
            return False
    return True


async def audit(client: Client, ids: list[str], folder: Path) -> None:
    wall_minus_monotonic = time.time() - time.monotonic()
    starts: dict[str, list[tuple[int, float]]] = {}
    ends: dict[str, list[int]] = {}
    for kind, job_id, attempt, at in (line.split() for line in read(folder / "audit")):
        if kind == "start":
            starts.setdefault(job_id, []).append((int(attempt), int(at) / 1e9 + wall_minus_monotonic))
        else:
            ends.setdefault(job_id, []).append(int(attempt))
    jobs = dict(zip(ids, await client.store.get(ids), strict=True))
    assert all(job is not None for job in jobs.values()), "a job is lost"
    for number, job_id in enumerate(ids):
        job = jobs[job_id]
        attempts = [attempt for attempt, _ in starts.get(job_id, [])]
        events = await client.store.events({job_id: 0})
        finals = [event for event in events if event.kind == "state" and State(event.data["state"]).final]
        assert len(finals) == 1, f"{job_id} has {len(finals)} ends"
        assert [event.seq for event in events] == list(range(1, job.seq + 1)), f"{job_id}: a gap in {events}"
        assert len(attempts) == len(set(attempts)), f"{job_id}: an attempt ran twice: {attempts}"
        assert all(attempt <= job.attempt for attempt in attempts)
        assert all(at <= job.finished_at + 0.005 for _, at in starts.get(job_id, [])), f"{job_id} ran after its end"
        assert job.state is State.SUCCEEDED, f"{job_id}: {job.error}"
        assert job.attempt in ends[job_id], f"{job_id} is said to have succeeded, but it did not run to its end"
        assert job.result == str(number).encode()


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


def read(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
