"""SIGTERM while jobs run that are shorter and longer than the grace: default settings, and nothing is charged."""

import asyncio
import time
from pathlib import Path

from tests.campaigns import audit
from tests.campaigns.audit import Expected
from tests.campaigns.kills import finish, running
from tests.campaigns.report import Report

from heavylift.core.options import PLACES, Options

DRAIN = 20.0


async def drain(folder: Path, rounds: int, grace: float = DRAIN) -> Report:
    """Stop the server so many times, as a service manager does, and start it again."""
    report = Report(f"SIGTERM with jobs running, {rounds} times, grace {grace:g} s")
    async with running(folder, HEAVYLIFT_DRAIN=str(grace)) as (fleet, client):
        # Of each place one job that ends within the grace, and one that does not.
        expected, requests = {}, []
        for number in range(2 * len(PLACES) * rounds):
            place = PLACES[number % 3]
            task = "linger_awaiting" if place == "loop" else "linger"
            seconds = grace / 10 if number % 2 else 1.3 * grace
            requests.append((task, f'{{"number":{number},"seconds":{seconds:.2f}}}'.encode(), Options(run_in=place)))
            expected[f"job-{number}"] = Expected(result=str(number).encode())
        await client.submit(requests, list(expected))
        lasted = []
        since = 0.0
        for _ in range(rounds):
            while not any(mark.kind == "start" and mark.at > since for mark in audit.marks(folder / "audit")):
                await asyncio.sleep(0.01)
            began = time.monotonic()
            code = await asyncio.to_thread(fleet.stop)
            lasted.append(time.monotonic() - began)
            if code != 0:
                report.wrong.append(f"the server ended with exit code {code}")
            report.wrong += [f"process {pid} is left over" for pid in fleet.left_over()]
            since = time.monotonic()
            fleet.start()
        await finish(report, fleet, client, expected)
        for job in await client.store.get(list(expected)):
            if job is not None and (job.failures, job.crashes, job.losses) != (0, 0, 0):
                report.wrong.append(f"{job.id} was charged: {job.failures}, {job.crashes}, {job.losses}")
        report.times("from SIGTERM to the end of the server", lasted, grace + 2)
    return report
