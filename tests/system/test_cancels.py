"""Cancels that meet short jobs at any moment of their lives: the receipt is true, and no neighbour pays.

The second test has crashes, kills of hosts and drains of the worker at the same time.
"""

import os

import pytest
from tests.system.borders import Borders, Faults
from tests.system.service import serving

from heavylift import monolith

CANCELS = int(os.environ.get("CANCELS", "200"))


@pytest.mark.timeout(1200)
async def test_a_receipt_is_true_and_neighbours_never_pay(tmp_path, capsys):
    async with serving(tmp_path, recycle_age=3600) as service:
        borders = Borders(service, Faults())
        await borders.cancel(CANCELS)
        counts = await borders.audit()
    with capsys.disabled():
        print(f"\n{CANCELS} cancels: {dict(counts)}")


@pytest.mark.timeout(3600)
async def test_receipts_stay_true_when_jobs_crash_hosts_are_killed_and_workers_drain(tmp_path, capsys, monkeypatch):
    # A worker that is drained again and again is not one that fails.
    monkeypatch.setattr(monolith, "BACKOFF", (0.01, 0.01))
    async with serving(tmp_path, recycle_age=3600, drain=0.02) as service:
        borders = Borders(service, Faults(harm=0.15, long=0.02, kill_every=10, drain_every=50))
        await borders.cancel(CANCELS)
        counts = await borders.audit()
    with capsys.disabled():
        print(f"\n{CANCELS} cancels: {dict(counts)}")
    met = ("met its start", "met its run", "met its crash", "crashed by itself", "host killed", "handed back: drain")
    assert all(counts[what] for what in met), f"something never happened: {dict(counts)}"
