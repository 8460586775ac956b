"""How soon a host of a big application is ready, what memory is its own, and what a small application takes in all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks import machine
from benchmarks.application import opened
from benchmarks.machine import Foreign
from benchmarks.report import Line, at_most, median, say
from benchmarks.running import finished, started
from benchmarks.workers import APPLICATION, ROOT, fresh_store, running_worker
from heavylift.core import codec
from heavylift.core.outcome import Succeeded
from heavylift.executor import Application
from heavylift.executors.link import Nanny
from heavylift.executors.pool import Pool
from heavylift.settings import Settings

HEAVY = Application("benchmarks.heavy", "lift", (), (str(ROOT), str(ROOT / "src")))
WARM = 4
HELD = 1.0
"""Seconds for which a host is held, so that the next job needs a new one."""
AT_REST = 0.5


@dataclass(frozen=True, slots=True)
class Hosts:
    """Seconds until each host told its pid, asked for anew; what each takes at rest; and what they have imported."""

    ready: list[float]
    memory: list[dict[str, float]]
    imported: str


def run(*, quick: bool) -> list[Line]:
    """Hosts of the big application, then the whole of the small one."""
    with Foreign() as foreign:
        heavy = asyncio.run(hosts(HEAVY, 4 if quick else 12))
        bare = asyncio.run(hosts(APPLICATION, 4 if quick else 12))
    say(f"memory: {heavy.imported}; {foreign}")
    ready, uss = median(heavy.ready) * 1e3, median([one["uss"] for one in heavy.memory])
    rss = median([one["rss"] for one in heavy.memory])
    in_all = asyncio.run(small())
    what = f"worker, nanny and {WARM} warm hosts of a small application, PSS in all"
    return [
        Line(
            "memory",
            "host of a big application ready, p50",
            ready,
            "ms",
            median(bare.ready) * 1e3,
            "small application",
            at_most(10.0, "value"),
            note=heavy.imported,
        ),
        Line("memory", "its own memory at rest (USS)", uss, "MiB", rss, "its RSS", at_most(4.0, "value")),
        Line("memory", what, sum(in_all.values()), "MiB", target=at_most(60.0, "value"), note=shares(in_all)),
    ]


async def hosts(application: Application, count: int) -> Hosts:
    """Ask for one host after the other, while the earlier ones are held."""
    pool = Pool(await Nanny.start(application), Settings(concurrency=count + 1))
    await pool.start()
    try:
        first = await started(pool, "occupy", seconds=HELD)
        runs, ready = [first], []
        for _ in range(count):
            began = time.perf_counter()
            runs.append(await started(pool, "occupy", seconds=HELD))
            ready.append(time.perf_counter() - began)
        await asyncio.gather(*(run.outcome for run in runs))
        await asyncio.sleep(AT_REST)
        memory = [machine.memory(run.pid) for run in runs]
        return Hosts(ready, memory, await told(pool) if application is HEAVY else "")
    finally:
        await pool.close(0.0)


async def told(pool: Pool) -> str:
    """What the application says that it imported."""
    outcome = await finished(pool, "imported")
    return str(codec.decode(outcome.result)) if isinstance(outcome, Succeeded) else repr(outcome)


async def small() -> dict[str, float]:
    """PSS of each process of a small application, its hosts at rest."""
    with fresh_store() as url, running_worker(url, concurrency=WARM) as processes:
        async with opened(url) as (_, tasks):
            handles = await tasks["occupy"].submit_many([(HELD,)] * WARM)
            for handle in handles:
                await handle.result(timeout=30)
            await asyncio.sleep(AT_REST)
            pids = {"worker": processes.worker, "nanny": processes.nanny}
            pids |= {f"host {number}": pid for number, pid in enumerate(processes.hosts, 1)}
            if len(pids) != WARM + 2:
                message = f"{WARM} hosts should be warm: {pids}"
                raise RuntimeError(message)
            return {name: machine.memory(pid)["pss"] for name, pid in pids.items()}


def shares(memory: dict[str, float]) -> str:
    """Each process's part."""
    return ", ".join(f"{name} {size:.1f}" for name, size in memory.items())
