"""The simulation finds what is wrong: each of these takes one precaution out of the product."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.simulation.world import simulate

from heavylift import housekeeping
from heavylift.core import lifecycle
from heavylift.stores.sqlite import claiming, keys, rows, saving, workers
from heavylift.stores.sqlite.claiming import Claimer
from heavylift.stores.sqlite.gates import Gates
from heavylift.stores.sqlite.transaction import Transaction
from heavylift.worker import Worker

ENOUGH = 200
"""Schedules in which each of them shows."""


def found(sign: str, only: str | None = None) -> str:
    """The first violation with these words, among schedules with faults of one kind."""
    for seed in range(ENOUGH):
        for violation in simulate(seed, only).violations:
            if sign in violation:
                return violation
    pytest.fail(f"{ENOUGH} schedules show nothing of the kind: {sign}")


def forget_runs(worker: Worker, dead: int) -> None:
    if worker.record.epoch == dead:
        worker.record = replace(worker.record, epoch=dead + 1)
        worker._beat_now.set()


async def ask_nothing(worker: Worker) -> None:
    worker._doubts.clear()


def charge_nothing(rule: Callable[..., Any]) -> Callable[..., Any]:
    def settle(job, outcome, now, random=0.5):
        change = rule(job, outcome, now, random)
        return change._replace(fields={name: value for name, value in change.fields.items() if name != "crashes"})

    return settle


def innocent_pay(rule: Callable[..., Any]) -> Callable[..., Any]:
    def settle(job, outcome, now, random=0.5):
        change = rule(job, outcome, now, random)
        if change.fields.get("losses"):
            return change._replace(fields={**change.fields, "losses": job.options.losses})
        return change

    return settle


def test_it_finds_a_worker_that_lets_its_jobs_run_on_when_it_was_declared_dead(monkeypatch):
    monkeypatch.setattr(Worker, "_begin_new_epoch", forget_runs)

    assert found("still runs", "stop")


def test_it_finds_a_save_without_a_fence(monkeypatch):
    monkeypatch.setattr(saving, "_refused", lambda change, job, dead, mine: False)
    monkeypatch.setattr(saving, "_save_quickly", lambda transaction, changes, held: {})

    assert found("goes on after its final state")


def test_it_finds_a_settle_that_goes_over_a_cancel(monkeypatch):
    real = saving._refused

    def blind(change, job, dead, mine):
        return real(change._replace(knows_cancel=rows.cancel_of(job.cancel)), job, dead, mine)

    monkeypatch.setattr(saving, "_refused", blind)

    assert found("starts although the job was cancelled")


def test_it_finds_a_sweep_of_others_right_after_an_outage(monkeypatch):
    monkeypatch.setattr(Worker, "_may_sweep_others", lambda worker, now: True)

    assert found("sweeps others after", "freeze")


def test_it_finds_jobs_of_a_claim_whose_answer_was_lost(monkeypatch):
    monkeypatch.setattr(Worker, "_hand_back_unknown", ask_nothing)

    assert found("do not come to rest")


def test_it_finds_cancels_that_no_beat_delivers(monkeypatch):
    monkeypatch.setattr(Worker, "_deliver", lambda worker, mailbox: None)

    assert found("do not come to rest")


def test_it_finds_jobs_of_the_dead_that_nobody_sweeps(monkeypatch):
    async def nothing(*args, **others):
        return None

    monkeypatch.setattr(housekeeping, "keep_house", nothing)
    monkeypatch.setattr(housekeeping, "sweep", nothing)

    assert found("still held by the dead", "kill")


def test_it_finds_claims_of_an_epoch_that_was_declared_dead(monkeypatch):
    def unchecked(transaction, worker, epoch, queues):
        _, _, idle, tasks, *awaited = transaction.connection.execute(claiming.CLAIMER, (worker,)).fetchone()
        return Claimer(worker, epoch, dict.fromkeys(queues, 1), tasks, claiming._names(tasks), idle), awaited

    monkeypatch.setattr(claiming, "_claimer", unchecked)

    assert found("which was declared dead", "stall")


def test_it_finds_a_crash_that_costs_nothing(monkeypatch):
    monkeypatch.setattr(lifecycle, "settle", charge_nothing(lifecycle.settle))

    assert found("crashes of")


def test_it_finds_an_innocent_job_that_pays_for_its_dead_worker(monkeypatch):
    monkeypatch.setattr(lifecycle, "settle", innocent_pay(lifecycle.settle))

    assert found("failed with budgets left", "kill")


def test_it_finds_a_worker_that_hands_back_what_it_is_about_to_save(monkeypatch):
    real = Worker._hand_back_unknown

    async def ask(worker: Worker) -> None:
        saving_now, worker._saving = worker._saving, []
        unsaved, worker._unsaved = worker._unsaved, []
        try:
            await real(worker)
        finally:
            worker._saving, worker._unsaved = saving_now, unsaved + worker._unsaved

    monkeypatch.setattr(Worker, "_hand_back_unknown", ask)

    assert found("is handed back as not started")


def test_it_finds_a_worker_that_is_declared_dead_too_early(monkeypatch):
    monkeypatch.setattr(workers, "_over", lambda boot, beat_at, lease, monotonic: monotonic > beat_at + lease / 8)

    assert found("though nothing has kept it from beating")


def test_it_finds_a_settle_that_gives_no_slot_back(monkeypatch):
    monkeypatch.setattr(saving, "_free", lambda transaction, options: None)

    assert found("counts 1, and 0 run")


def test_it_finds_a_slot_that_comes_back_twice_after_a_sweep(monkeypatch):
    real = saving._write

    def twice(transaction, job, change):
        died = transaction.connection.execute("SELECT died_at FROM worker WHERE id = ?", (job.worker,)).fetchone()
        if job.state == rows.RUNNING and "state" in change.fields and died is not None and died[0] is not None:
            saving._free(transaction, rows.options_of(job.options))
        real(transaction, job, change)

    monkeypatch.setattr(saving, "_write", twice)

    assert found("counts", "kill")


def test_it_finds_a_gate_that_lets_one_too_many_pass(monkeypatch):
    real = Gates.room
    monkeypatch.setattr(Gates, "room", lambda gates, connection, gate: real(gates, connection, gate) + 1)

    assert found("are recorded as running")
    assert found("runs at once")


def test_it_finds_a_claim_that_takes_no_slot(monkeypatch):
    monkeypatch.setattr(Gates, "passed", lambda gates, gate, jobs: None)

    assert found("counts 0, and 1 run")


def test_it_finds_a_gate_that_lets_nobody_go_when_it_opens(monkeypatch):
    monkeypatch.setattr(Gates, "let_go", lambda gates, connection, gate: iter(()))

    assert found("do not come to rest")


def test_it_finds_a_store_that_does_not_look_who_has_a_key(monkeypatch):
    monkeypatch.setattr(keys, "keeper", lambda holders, options: None)

    assert found("jobs with the unique key")


def test_it_finds_a_replacement_that_does_not_wait_until_the_other_has_stopped(monkeypatch):
    monkeypatch.setattr(keys, "running_holders", lambda connection, key: 0)

    assert found("and 2 of them run")


def test_it_finds_rates_that_go_by_the_wall_clock(monkeypatch):
    def by_wall(transaction: Transaction) -> Gates:
        transaction._gates = transaction._gates or Gates(transaction.now)
        return transaction._gates

    monkeypatch.setattr(Transaction, "gates", property(by_wall))

    assert found("of 30/min starts", "jump")
