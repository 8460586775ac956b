"""How many no-op calls a second the pool takes through the Executor contract, beside other process and thread pools."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import Foreign
from benchmarks.report import Line, at_least, median, say
from benchmarks.running import claimed
from benchmarks.workers import APPLICATION, ROOT, environment
from heavylift.core import codec
from heavylift.core.job import Job
from heavylift.core.outcome import Outcome, Succeeded
from heavylift.executor import Report
from heavylift.executors import processes
from heavylift.executors.link import Nanny
from heavylift.executors.pools import Pools
from heavylift.process import GARBAGE
from heavylift.settings import Settings

HOSTS = 2
ROUNDS = 5
PISCINA = ROOT / "benchmarks" / "peers" / "piscina"


def run(*, quick: bool) -> list[Line]:
    """Interleaved rounds of all of them; each peer is given what suits it best."""
    calls = 5_000 if quick else 40_000
    ours: list[float] = []
    peers: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        piscina = installed(Path(folder))
        for number in range(ROUNDS):
            with Foreign() as foreign:
                ours.append(asyncio.run(rate(calls)))
                rates = {f"ProcessPoolExecutor, {how}": found for how, found in executor(calls // 4).items()}
                if piscina is not None:
                    rates["Piscina"] = node(piscina, calls)
            for name, found in rates.items():
                peers.setdefault(name, []).append(found)
            others = ", ".join(f"{name} {found:,.0f}" for name, found in rates.items())
            say(f"pool {number + 1}/{ROUNDS}: {ours[-1]:,.0f} calls/s, {others}; {foreign}")
    what, value = f"{calls:,} no-op calls on {HOSTS} hosts", median(ours)
    best = max((name for name in peers if name != "Piscina"), key=lambda name: median(peers[name]))
    lines = [Line("pool", what, value, "calls/s", median(peers[best]), best, at_least(10.0))]
    if "Piscina" in peers:
        lines.append(Line("pool", what, value, "calls/s", median(peers["Piscina"]), "Piscina", at_least(2.0)))
    return lines


async def rate(calls: int) -> float:
    """Calls a second: given to the pool as it has room, and each result read."""
    # As nice as the others' processes, so that other load on the machine weighs the same on all.
    pool = Pools(await Nanny.start(APPLICATION), Settings(concurrency=HOSTS, nice=0))
    await pool.start()
    try:
        await through(pool, made(calls // 10))
        jobs = made(calls)
        began = time.perf_counter()
        await through(pool, jobs)
        return calls / (time.perf_counter() - began)
    finally:
        await pool.close(0.0)


def made(calls: int) -> list[Job]:
    """The jobs, as they would come from a store; the collector looks at them as little as a worker's does."""
    jobs = [claimed("noop", value=number) for number in range(calls)]
    processes.settle_memory()
    gc.set_threshold(GARBAGE)
    return jobs


async def through(pool: Pools, jobs: list[Job]) -> None:
    """Run them all."""
    calls = len(jobs)
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    total = left = 0

    def finished(_job: Job, outcome: Outcome) -> None:
        nonlocal total, left
        if not isinstance(outcome, Succeeded):
            over.set_exception(RuntimeError(f"A call ended {outcome!r}."))
            return
        total += codec.decode(outcome.result)
        left -= 1
        if left == 0:
            over.set_result(None)
        elif pool.free.process:
            give()

    def give() -> None:
        for _ in range(min(pool.free.process, len(jobs))):
            pool.run(jobs.pop(), ignore, finished)

    left = calls
    give()
    await over
    assert total == calls * (calls - 1) // 2


def ignore(_job: Job, _report: Report) -> None:
    """These calls report nothing."""


def executor(calls: int) -> dict[str, float]:
    """The rates of a ProcessPoolExecutor, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers.executor", str(calls), "1"]
    done = subprocess.run(command, env=environment(), cwd=ROOT, check=True, capture_output=True)
    found: dict[str, float] = json.loads(done.stdout)[0]
    return found


def installed(folder: Path) -> Path | None:
    """Piscina, as the lock has it, in a folder of its own; None where Node or the package cannot be had."""
    if shutil.which("npm") is None:
        say("pool: there is no Node here; Piscina is left out")
        return None
    for file in PISCINA.iterdir():
        shutil.copy(file, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        say(f"pool: Piscina cannot be installed, and is left out: {done.stdout}{done.stderr}")
        return None
    return folder


def node(folder: Path, calls: int) -> float:
    """Piscina's rate: the best of three in one process, since V8 has to get warm."""
    command = ["node", "pool.js", str(calls), "3"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return float(max(json.loads(done.stdout)))
