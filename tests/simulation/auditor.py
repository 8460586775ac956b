"""The auditor: sees each start and end where it happens, looks into the database beside the store, and says what breaks
an invariant. It believes no worker.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from heavylift.core import lifecycle
from heavylift.core.errors import DuplicateJob
from heavylift.core.limits import SLACK, Concurrency, Rate, pace
from heavylift.stores.sqlite import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.database import Database
    from tests.simulation.executor import Run, SimulatedExecutor
    from tests.simulation.link import Link
    from tests.simulation.loop import Process
    from tests.simulation.machine import Machine

    from heavylift.core.job import Change, Job
    from heavylift.core.options import Options
    from heavylift.core.outcome import Outcome
    from heavylift.store import WorkerRecord


@dataclass(slots=True, eq=False)
class Seen:
    """One worker process, as the auditor follows it. `heard`: when a beat of it was answered last; `epoch`: of its
    last beat. `informed`: it was told since that its last beat came too late.
    """

    process: Process
    link: Link
    executor: SimulatedExecutor
    epoch: int = 0
    heard: float = 0.0


class Auditor:
    """`violations` in words, the first one first."""

    def __init__(self, machine: Machine, database: Database, lease: float) -> None:
        self._machine = machine
        self._database = database
        self._lease = lease
        self.violations: list[str] = []
        self.workers: dict[str, Seen] = {}
        self.counts: Counter[str] = Counter()
        self._taken: set[tuple[str, int]] = set()
        self._alive: dict[str, list[tuple[Run, SimulatedExecutor]]] = defaultdict(list)
        self._declared: set[tuple[str, int]] = set()
        self._checkpoints: dict[str, int] = {}
        self._cancelled: dict[str, int] = {}
        self._paced: dict[str, float] = {}
        """When the last one of each rate was claimed."""
        self.starts: Counter[str] = Counter()
        self.ends: dict[tuple[str, int], Outcome] = {}
        self.modes: tuple[str, ...] = ()
        """What clients of this schedule want to happen when a unique key is taken."""

    def violation(self, *what: Any) -> None:
        """Something is wrong."""
        text = " ".join(map(str, what))
        self._machine.note("VIOLATION:", text)
        self.violations.append(f"at {self._machine.loop.time():.3f} s: {text}")

    # --- what executors tell ------------------------------------------------------------------------------------

    def taken(self, executor: SimulatedExecutor, run: Run) -> None:
        """An executor was given an attempt."""
        if run.key in self._taken:
            self.violation(executor.process, "was given an attempt that was given before:", *run.key)
        self._taken.add(run.key)

    def started(self, executor: SimulatedExecutor, run: Run) -> None:
        """Task code begins."""
        job = run.job
        self._machine.note("starts", *run.key)
        self.starts[job.id] += 1
        seen = self.workers[executor.process.name]
        row = self._database.connection.execute("SELECT state, attempt FROM job WHERE id = ?", (job.id,)).fetchone()
        if row[1] < job.attempt:
            self.violation("attempt", *run.key, "starts before it is counted")
        elif row == (rows.RUNNING, job.attempt):
            self._check_start(run)
        elif self._is_unaware(seen):
            self.counts["starts by a worker that did not know of its death"] += 1
            self._machine.note("(it does not know that it is dead)", *run.key)
        else:
            self.violation("attempt", *run.key, f"starts after its recorded end ({rows.STATES[row[0]]}, {row[1]})")
        if job.epoch is not None and job.epoch < seen.epoch:
            self.violation("attempt", *run.key, f"of epoch {job.epoch} starts in epoch {seen.epoch} of", seen.process)
        if job.attempt > self._cancelled.get(job.id, job.attempt):
            self.violation("attempt", *run.key, "starts although the job was cancelled before")
        self._alive[job.id].append((run, executor))
        self._check_limits(run)

    def _check_start(self, run: Run) -> None:
        """It resumes where the job was; code of an earlier attempt runs on only where its worker was declared dead."""
        if int(run.job.checkpoint or 0) < self._checkpoints.get(run.job.id, 0):
            self.violation("attempt", *run.key, "starts without the job's last checkpoint")
        for other, elsewhere in self._living(run.job.id):
            holder = (other.job.worker, other.job.epoch)
            if holder not in self._declared:
                self.violation("attempt", *run.key, f"starts while attempt {other.job.attempt} runs in", holder)
            self.counts["runs beside one of a worker declared dead"] += 1
            self._machine.note("attempt", other.job.attempt, "still runs in", elsewhere.process)

    def _check_limits(self, begun: Run) -> None:
        """Of each key, no more code runs at once than it allows: that of workers that were declared dead not counted,
        which runs on until they hear of it.
        """
        running = [run.job for job in list(self._alive) for run, _ in self._living(job)]
        counted = [job for job in running if (job.worker, job.epoch) not in self._declared]
        for key, most in limits_of(begun.job.options).items():
            behind = [f"{job.id} {job.attempt}" for job in counted if key in limits_of(job.options)]
            if len(behind) > most:
                self.violation(f"code of {len(behind)} jobs with the key {key!r} of {most} runs at once:", behind)
            elif sum(key in limits_of(job.options) for job in running) > most:
                self.counts["runs behind a gate beside one of a worker declared dead"] += 1

    def ended(self, executor: SimulatedExecutor, run: Run, outcome: Outcome) -> None:
        """Task code is over."""
        self._machine.note("ends", *run.key, type(outcome).__name__)
        self.ends[run.key] = outcome
        if executor.below.killed:
            self.violation("a dead host of", executor.process, "ends", *run.key)

    def _living(self, job: str) -> list[tuple[Run, SimulatedExecutor]]:
        alive = [(run, where) for run, where in self._alive[job] if run.over is None and not where.below.killed]
        self._alive[job] = alive
        return alive

    def living(self) -> list[tuple[str, int]]:
        """All attempts whose code runs."""
        return [run.key for job in list(self._alive) for run, _ in self._living(job)]

    def _is_unaware(self, seen: Seen) -> bool:
        return self._machine.loop.time() - seen.heard > self._lease

    # --- what goes to the store ---------------------------------------------------------------------------------

    def beats(self, record: WorkerRecord) -> None:
        """A worker beats: as a later epoch, it must have let go of what it ran in the ones before."""
        seen = self.workers[record.id]
        seen.epoch = record.epoch
        for run in seen.executor.runs.values():
            if run.over is None and run.stopping is None and run.job.epoch != record.epoch:
                self.violation(record.id, f"beats as epoch {record.epoch} and still runs", *run.key, run.job.epoch)

    def heard(self, worker: str) -> None:
        """A worker's beat was answered."""
        self.workers[worker].heard = self._machine.loop.time()

    def saved(self, change: Change, seq: int | None) -> None:
        """A change was written, or refused (None)."""
        self.counts["writes" if seq is not None else "writes refused"] += 1
        state = change.fields.get("state", "")
        self._machine.note("saves" if seq is not None else "is refused", change.id, change.attempt, state or "report")
        unstarted = any(event.data.get("reason") == "not started" for event in change.events)
        if unstarted and (change.id, change.attempt) in self._taken:
            self.violation(
                "attempt", change.id, change.attempt, "is handed back as not started, and an executor has it"
            )
        if seq is not None and "cancel" in change.fields:
            self._cancelled[change.id] = change.attempt if change.fields["cancel"] else 2**31
        checkpoint = change.fields.get("checkpoint")
        if seq is not None and checkpoint is not None:
            self._checkpoints[change.id] = max(int(checkpoint), self._checkpoints.get(change.id, 0))
        if seq is not None and state:
            self._check_keys()

    def added(self, answers: Sequence[Any]) -> None:
        """A call of `add` was carried out."""
        for answer in answers:
            if isinstance(answer, DuplicateJob) or not answer.created:
                self.counts["submits of a taken key, or again"] += 1
        self._check_keys()

    def _check_keys(self) -> None:
        """Of jobs with one unique key one runs, and one waits: instead, or beside it until it has stopped."""
        most = 1 if set(self.modes) <= {"return", "reject"} else 2
        for key, jobs, running in self._database.connection.execute(
            "SELECT json_extract(options, '$.unique') AS key, count(*), sum(state = 3) FROM job"
            " WHERE key IS NOT NULL AND state <= 3 GROUP BY key"
        ).fetchall():
            if jobs > most or running > 1:
                self.violation(f"{jobs} jobs with the unique key {key} are not over, and {running} of them run")

    def claimed(self, worker: str, epoch: int, jobs: Sequence[Job]) -> None:
        """A claim was carried out."""
        for job in jobs:
            self._machine.note(worker, "claims", job.id, job.attempt, f"epoch {epoch}")
        self._check_gates(jobs)
        if jobs and (worker, epoch) in self._declared:
            self.violation(worker, f"claims as epoch {epoch}, which was declared dead")
        self._check_keys()

    def _check_gates(self, begun: Sequence[Job]) -> None:
        """By the record, never more run with a key than it allows; and its gate counts those that do."""
        running: Counter[str] = Counter()
        for (text,) in self._database.connection.execute("SELECT options FROM job WHERE state = 3").fetchall():
            running.update(limits_of(rows.options_of(text)).keys())
        for job in begun:
            for key, most in limits_of(job.options).items():
                if running[key] > most:
                    self.violation(f"{running[key]} jobs with the key {key!r} of {most} are recorded as running")
                self.counts["claims behind a gate"] += 1
        self._check_rates(begun)
        for key, held in self._database.connection.execute("SELECT key, held FROM gate WHERE kind = 'concurrency'"):
            if held != running[key]:
                self.violation(f"the gate of {key!r} counts {held}, and {running[key]} run")

    def _check_rates(self, begun: Sequence[Job]) -> None:
        """Of each rate, none starts earlier than an interval after the one before, whatever the wall clock says."""
        now = self._machine.loop.time()
        for rate in [limit for job in begun for limit in job.options.limits if isinstance(limit, Rate)]:
            passed, least = now - self._paced.get(rate.key, -inf), pace(rate.rate).interval
            if passed < least - SLACK:
                self.violation(f"a job with the key {rate.key!r} of {rate.rate} starts {passed:.3f} s after another")
            self._paced[rate.key] = now
            self.counts["claims behind a rate"] += 1

    def dead(self) -> set[tuple[str, int]]:
        """Epochs that were declared dead, of workers that are still known."""
        found = self._database.connection.execute("SELECT id, epoch FROM worker WHERE died_at IS NOT NULL")
        return set(found.fetchall())

    def sweeps(self, link: Link, name: str) -> None:
        """A worker is about to declare others dead: only after one lease of contact."""
        contact = self._machine.loop.time() - link.contact
        if 0 < contact < self._lease:
            self.violation(name, f"sweeps others after {contact:.3f} s of contact")

    def swept(self, name: str, before: set[tuple[str, int]], jobs: Sequence[Job]) -> None:
        """A sweep was carried out."""
        now = self._machine.loop.time()
        for worker, epoch in sorted(self.dead() - before):
            self._machine.note(name, "declares dead", worker, f"epoch {epoch}")
            self._declared.add((worker, epoch))
            self.counts["declared dead"] += 1
            seen = self.workers[worker]
            blameless = not (seen.process.killed or seen.process.stopped) and now - seen.link.trouble > self._lease
            if blameless and not seen.link.gone:
                self.violation(worker, "is declared dead, though nothing has kept it from beating")
        for job in jobs:
            self._machine.note(name, "finds", job.id, job.attempt, "of", job.worker, job.epoch)

    # --- when all is at rest ------------------------------------------------------------------------------------

    def final(self, jobs: Sequence[Job], histories: dict[str, list[Any]], cancelled: set[str]) -> None:
        """All jobs as they are at the end, with their events; `cancelled`: those that somebody asked to cancel."""
        for job in jobs:
            if not job.state.final:
                self.violation(job.id, f"is {job.state} at the end")
            spent = self._check_history(job, histories[job.id])
            if job.state == "cancelled" and job.id not in cancelled and not self._is_replaced(job):
                self.violation(job.id, "is cancelled, and nobody asked for it")
            if job.state == "failed":
                self._check_failed(job, spent)
        if living := self.living():
            self.violation("code still runs:", living)
        self._check_counters()
        self._check_gates(())
        # One at a rate, whose jobs were cancelled meanwhile, is looked at when that opens.
        parked = self._database.connection.execute(
            "SELECT count(*) FROM lane JOIN gate ON gate.number = lane.parked WHERE gate.kind <> 'rate'"
        ).fetchone()[0]
        if parked:
            self.violation(f"{parked} lanes still wait at gates")

    def _is_replaced(self, job: Job) -> bool:
        """Whether it has made room for another job with its key, which is there."""
        by = (job.cancel.reason or "").removeprefix("replaced by job ") if job.cancel else ""
        found = self._database.connection.execute("SELECT options FROM job WHERE id = ?", (by,)).fetchone()
        self.counts["replaced"] += found is not None
        return found is not None and rows.options_of(found[0]).unique == job.options.unique

    def _check_history(self, job: Job, events: list[Any]) -> Counter[str]:
        """Its events make sense; how its attempts ended since it was begun anew."""
        if [item.seq for item in events] != list(range(1, job.seq + 1)):
            self.violation(job.id, "has gaps in its events:", [item.seq for item in events], "of", job.seq)
        over, attempt = False, 0
        ended: set[int] = set()
        spent: Counter[str] = Counter()
        for data in _states(events, spent):
            if over and not data.get("retry"):
                self.violation(job.id, "goes on after its final state:", data)
            over = data["state"] in ("succeeded", "failed", "cancelled")
            if data["state"] == "running":
                if data["attempt"] != attempt + 1:
                    self.violation(job.id, f"begins attempt {data['attempt']} after {attempt}")
                attempt = data["attempt"]
            elif "outcome" in data:
                if data["attempt"] in ended:
                    self.violation(job.id, "has two outcomes of attempt", data["attempt"])
                ended.add(data["attempt"])
                lost = data.get("error", {}).get("code") == "lost"
                spent["losses" if lost else data["outcome"]] += 1
                self._check_truth(job, data["attempt"], data["outcome"])
            if data.get("retry"):
                self._check_budgets(job, spent)
                spent.clear()
        self._check_budgets(job, spent)
        if self.starts[job.id] > attempt:
            self.violation(job.id, f"started {self.starts[job.id]} times in {attempt} attempts")
        return spent

    def _check_truth(self, job: Job, attempt: int, outcome: str) -> None:
        """What is recorded is what happened; only an interruption may be recorded of code that ended otherwise."""
        if outcome in ("succeeded", "failed", "timed-out", "crashed"):
            real = self.ends.get((job.id, attempt))
            if real is None or lifecycle.OUTCOME_NAMES[type(real)] != outcome:
                self.violation(f"attempt {attempt} of {job.id} is recorded as {outcome}, but was", real)

    def _check_budgets(self, job: Job, spent: Counter[str]) -> None:
        failures = spent["failed"] + spent["timed-out"]
        for name, count, limit in (
            ("failures", failures, job.options.retry.attempts),
            ("crashes", spent["crashed"], job.options.crashes),
            ("losses", spent["losses"], job.options.losses),
        ):
            if count > limit:
                self.violation(job.id, f"has {count} {name} of {limit}")

    def _check_failed(self, job: Job, spent: Counter[str]) -> None:
        """Nobody innocent failed: one of the budgets is used up, by what really happened (`_check_truth`)."""
        failures = spent["failed"] + spent["timed-out"]
        if job.error is not None and job.error.code == "expired":
            if self.starts[job.id] or not spent["expired"]:
                self.violation(job.id, "has expired, and had begun:", dict(spent))
            return
        used = failures >= job.options.retry.attempts or spent["crashed"] >= job.options.crashes
        if not used and spent["losses"] < job.options.losses:
            self.violation(job.id, "failed with budgets left:", dict(spent), job.error)

    def followed(self, jobs: Sequence[Job], histories: dict[str, list[Any]], followers: Sequence[bytes]) -> None:
        """Each failure of a job is followed once, nothing else is; `followers`: their arguments."""
        found = Counter(followers)
        for job in jobs:
            failures = sum(item.data.get("state") == "failed" for item in histories[job.id])
            expected = failures if job.options.on_exhausted else 0
            if (seen := found[b'{"job_id":"%s"}' % job.id.encode()]) != expected:
                self.violation(job.id, f"has failed {failures} times, and {seen} jobs follow instead of {expected}")
            self.counts["failures that are followed"] += expected
            self.counts["jobs that expired"] += job.error is not None and job.error.code == "expired"

    def _check_counters(self) -> None:
        real = self._database.connection.execute(
            "SELECT queue, state, count(*) FROM job GROUP BY queue, state ORDER BY queue, state"
        ).fetchall()
        counted = {}
        for number, *counts in self._database.connection.execute(
            "SELECT number, queued, running, succeeded, failed, cancelled FROM queue"
        ).fetchall():
            for state, count in zip(("queued", "running", "succeeded", "failed", "cancelled"), counts, strict=True):
                if count:
                    counted[number, state] = count
        found: Counter[tuple[int, str]] = Counter()
        for queue, state, count in real:
            found[queue, str(rows.STATES[state])] += count
        if counted != dict(found):
            self.violation("the queues' counters are", counted, "and the jobs are", dict(found))


def limits_of(options: Options) -> dict[str, int]:
    """How many jobs may run at once, by key."""
    return {limit.key: limit.most for limit in options.limits if isinstance(limit, Concurrency)}


def _states(events: list[Any], spent: Counter[str]) -> Iterator[Any]:
    """What the state events say, one after the other; a checkpoint between them forgives the losses before it."""
    for item in events:
        if item.kind == "checkpoint":
            spent.pop("losses", None)
        elif item.kind == "state":
            yield item.data
