"""What never ends by itself is stopped, by a timeout and by a cancel, in every kind of host."""

import asyncio
import time
from pathlib import Path

from tests.campaigns import audit
from tests.campaigns.fleet import Fleet
from tests.campaigns.jobs import RUNAWAYS
from tests.campaigns.kills import running
from tests.campaigns.report import Report

from heavylift import State
from heavylift.client import Client
from heavylift.core.job import Job
from heavylift.core.options import PLACES, Options, RunIn
from heavylift.core.retry import Retry

SLACK = 1.0
NEIGHBOURS = 6


async def stop_runaways(folder: Path, limit: float, grace: float, kinds: tuple[str, ...] = tuple(RUNAWAYS)) -> Report:
    """Each kind in each place, once by its timeout and once by a cancel, beside jobs that go on."""
    report = Report(
        f"{len(kinds)} kinds of runaways in {len(PLACES)} kinds of hosts, limit {limit:g} s, grace {grace:g} s"
    )
    by_timeout: list[float] = []
    by_cancel: list[float] = []
    async with running(folder) as (fleet, client):
        for kind in kinds:
            for place in PLACES:
                by_timeout.append(await _timed_out(report, fleet, client, kind, place, limit, grace))
                by_cancel.append(await _cancelled(report, fleet, client, kind, place, grace))
        await _neighbours_live(report, client)
        code = await asyncio.to_thread(fleet.stop)
        if code != 0:
            report.wrong.append(f"the server ended with exit code {code}")
        report.wrong += [f"process {pid} is left over" for pid in fleet.left_over()]
    report.times("beyond the limit when it is over", by_timeout, grace + SLACK)
    report.times("from the cancel to its receipt", by_cancel, grace + SLACK)
    return report


async def _timed_out(
    report: Report, fleet: Fleet, client: Client, kind: str, place: RunIn, limit: float, grace: float
) -> float:
    """Seconds beyond the limit."""
    job = await _submitted(client, kind, place, Options(timeout=limit, grace=grace, run_in=place, retry=Retry(1)))
    began = await _started(fleet, job)
    job = await client.finished(job.id, 60)
    lasted = time.monotonic() - began
    code = job.error.code if job.error else None
    if (job.state, code) != (State.FAILED, "timed-out"):
        report.wrong.append(f"{kind} in a {place}: {job.state} {job.error} instead of timed-out")
    return lasted - limit


async def _cancelled(report: Report, fleet: Fleet, client: Client, kind: str, place: RunIn, grace: float) -> float:
    """Seconds until the receipt."""
    job = await _submitted(client, kind, place, Options(run_in=place))
    await _started(fleet, job)
    asked = time.monotonic()
    receipt = await client.cancel(job.id, grace=grace)
    lasted = time.monotonic() - asked
    if receipt.state is not State.CANCELLED or not receipt.final:
        report.wrong.append(f"{kind} in a {place}: the receipt says {receipt}")
    return lasted


async def _submitted(client: Client, kind: str, place: RunIn, options: Options) -> Job:
    task = "run_away_awaiting" if place == "loop" else "run_away"
    return (await client.submit([(task, f'{{"kind":"{kind}"}}'.encode(), options)]))[0]


async def _started(fleet: Fleet, job: Job) -> float:
    """When its code began, on the monotonic clock."""
    while True:
        for mark in audit.marks(fleet.folder / "audit"):
            if (mark.kind, mark.job) == ("start", job.id):
                return mark.at
        await asyncio.sleep(0.01)


async def _neighbours_live(report: Report, client: Client) -> None:
    """The worker goes on, in every place."""
    requests = []
    for number in range(NEIGHBOURS):
        place = PLACES[number % 3]
        task = "work_awaiting" if place == "loop" else "work"
        requests.append((task, f'{{"number":{number},"seconds":0.01}}'.encode(), Options(run_in=place)))
    for job in await client.submit(requests):
        ended = await client.finished(job.id, 60)
        if ended.state is not State.SUCCEEDED:
            report.wrong.append(f"a job after all runaways is {ended.state}: {ended.error}")
