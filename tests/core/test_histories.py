"""Random histories of many jobs: whatever happens in whatever order, the invariants hold.

A small store stands in for the real ones: it keeps jobs in a dict and applies the fence of `Store.save`. Workers may
be late: their outcomes, and any change of the past, are written again at any moment.
"""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from heavylift.core import event, lifecycle
from heavylift.core.errors import JobFinished, JobNotFinished
from heavylift.core.job import FINAL, CancelRequest, Change, Error, Job, NewEvent, Progress, State
from heavylift.core.options import Options
from heavylift.core.outcome import Cancelled, Crashed, Failed, Interrupted, Outcome, Snoozed, Succeeded, TimedOut
from heavylift.core.retry import Retry, exponential, fixed

ERROR = Error("failed", "boom")
seconds = st.sampled_from([0.0, 0.5, 2.0, 30.0])
outcomes = st.one_of(
    st.builds(Succeeded, st.binary(max_size=2)),
    st.builds(Failed, st.just(ERROR), st.booleans(), st.none() | seconds),
    st.builds(TimedOut, st.just(Error("timed-out", "late")), st.booleans()),
    st.builds(Crashed, st.just(Error("crashed", "died"))),
    st.builds(Cancelled, st.booleans(), st.booleans()),
    st.builds(Interrupted, st.just("the worker stops")),
    st.builds(Snoozed, seconds),
)
requests = st.builds(CancelRequest, st.just(0.0), st.none() | seconds, st.booleans(), st.none() | st.just("enough"))
options = st.builds(
    Options,
    retry=st.builds(Retry, st.integers(1, 4), st.just(exponential(2)) | st.just(fixed(0))),
    crashes=st.integers(1, 4),
    losses=st.integers(1, 5),
    grace=seconds,
    delay=seconds,
)
chance = st.floats(0, 1, exclude_max=True)

COUNTERS = {"failures": ("failed", "timed-out"), "crashes": ("crashed",), "losses": ("lost",)}


class MemoryStore:
    """The fence of the contract, and what an audit needs to know of the past."""

    def __init__(self):
        self.jobs: dict[str, Job] = {}
        self.events: dict[str, list[NewEvent]] = {}
        self.past: list[Change] = []
        self.refused = 0

    def add(self, job, first):
        self.jobs[job.id] = job
        self.events[job.id] = [first]

    def save(self, change):
        """The prose of `Store.save`, in four lines."""
        self.past.append(change)
        job = self.jobs[change.id]
        decides = change.fields.get("state") is State.QUEUED or "cancel" in change.fields
        by_another = decides and job.cancel != change.knows_cancel
        if (job.state, job.attempt) != (change.state, change.attempt) or by_another:
            self.refused += 1
            return False
        after = change.apply(job)
        self.check(job, change, after)
        self.jobs[job.id] = after
        self.events[job.id] += change.events
        return True

    def check(self, before, change, after):
        """What must hold between two records of a job."""
        assert after.seq == before.seq + len(change.events)
        assert (after.id, after.args, after.options, after.created_at) == (
            *(before.id, before.args, before.options, before.created_at),
        )
        starts = after.state is State.RUNNING and before.state is not State.RUNNING
        assert after.attempt == before.attempt + starts, "an attempt is a start, and none is used twice"
        manual = any(written.data.get("retry") for written in change.events)
        if before.state in FINAL:
            assert manual, "final is final"
            assert after.state is State.QUEUED
            assert (after.failures, after.crashes, after.losses, after.cancel) == (0, 0, 0, None)
        elif before.cancel is not None:
            assert after.cancel is not None, "a request is never taken back"
            assert after.cancel.force >= before.cancel.force, "nor made milder"
            assert grace(after) <= grace(before)
            assert after.state is not State.QUEUED, "nobody goes back who was to be cancelled"
        reported = any(written.kind == event.CHECKPOINT for written in change.events)
        from_start = manual and "checkpoint" in change.fields
        assert not from_start or after.checkpoint is None
        assert ("checkpoint" in change.fields) == (reported or from_start), "no other rule touches a checkpoint"

    def life(self, job_id):
        """The facts since the last start anew: a submit, or a retry by hand."""
        facts = [written.data for written in self.events[job_id] if written.kind == event.STATE]
        begin = max(number for number, data in enumerate(facts) if number == 0 or data.get("retry"))
        return facts[begin:]


def grace(job):
    return job.options.grace if job.cancel.grace is None else job.cancel.grace


def name_of(data):
    return "lost" if data.get("error", {}).get("code") == "lost" else data.get("outcome")


class Histories(RuleBasedStateMachine):
    jobs = Bundle("jobs")

    @initialize()
    def begin(self):
        self.store = MemoryStore()
        self.now = 1000.0
        self.checkpoints: dict[str, bytes | None] = {}
        self.forgiven: dict[str, int] = {}  # losses before the last new checkpoint of this life
        self.seen: dict[str, Job] = {}  # as the worker knew the job when it claimed it

    def running(self):
        return sorted(job.id for job in self.store.jobs.values() if job.state is State.RUNNING)

    # --- what may happen -------------------------------------------------------------------------------------------

    @rule(target=jobs, chosen=options)
    def submit(self, chosen):
        name = f"j{len(self.store.jobs)}"
        self.store.add(*lifecycle.submit(name, "build", b"{}", chosen, self.now))
        self.checkpoints[name] = None
        return name

    @rule(elapsed=seconds)
    def wait(self, elapsed):
        self.now += elapsed

    @rule(name=jobs)
    def claim(self, name):
        job = self.store.jobs[name]
        if job.state is State.QUEUED:
            self.now = max(self.now, job.run_at)
            assert self.store.save(lifecycle.claim(job, "w1", 1, self.now))
            self.seen[name] = self.store.jobs[name]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), outcome=outcomes, random=chance, knows=st.booleans())
    def settle(self, data, outcome, random, knows):
        """The worker may not have heard of a cancel yet: a refused change is made anew, as workers do."""
        name = data.draw(st.sampled_from(self.running()))
        job = self.store.jobs[name]
        known = job if knows else replace(self.seen[name], checkpoint=job.checkpoint)
        if not self.write_outcome(known, outcome, random):
            assert job.cancel is not None
            assert self.write_outcome(job, outcome, random)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), random=chance)
    def lose(self, data, random):
        """The worker vanished; whoever keeps house settles what it held."""
        name = data.draw(st.sampled_from(self.running()))
        [(_, outcome)] = lifecycle.lose([self.store.jobs[name]], lifecycle.suspect([self.store.jobs[name]], {}))
        assert outcome.lost, "who is lost by itself is charged"
        assert self.write_outcome(self.store.jobs[name], outcome, random)

    def write_outcome(self, job: Job, outcome: Outcome, random):
        before = self.store.jobs[job.id]
        change = lifecycle.settle(job, outcome, self.now, random)
        if not self.store.save(change):
            return False
        after = self.store.jobs[job.id]
        waits = not isinstance(outcome, Interrupted) or (outcome.lost and after.losses > lifecycle.FREE_LOSSES)
        if after.state is State.QUEUED and waits:
            assert after.run_at >= self.now
        if isinstance(outcome, Snoozed) or (isinstance(outcome, Interrupted) and not outcome.lost):
            assert (after.failures, after.crashes, after.losses) == (before.failures, before.crashes, before.losses)
            assert after.state is (State.QUEUED if before.cancel is None else State.CANCELLED)
        return True

    @rule(name=jobs, request=requests)
    def cancel(self, name, request):
        job = self.store.jobs[name]
        try:
            change = lifecycle.cancel(job, replace(request, at=self.now))
        except JobFinished:
            assert job.state in FINAL
            return
        assert self.store.save(change)
        after = self.store.jobs[name]
        assert after.state is (State.RUNNING if job.state is State.RUNNING else State.CANCELLED)
        if job.cancel is not None:
            own = job.options.grace
            graces = [own if found.grace is None else found.grace for found in (job.cancel, request, after.cancel)]
            assert graces[2] == min(graces)
            assert after.cancel.force == (job.cancel.force or request.force)
            assert after.cancel.at == job.cancel.at

    @precondition(lambda self: self.running())
    @rule(data=st.data(), first=requests, second=requests)
    def cancel_twice_at_once(self, data, first, second):
        """Both saw the job as it was: whoever comes second decides anew."""
        job = self.store.jobs[data.draw(st.sampled_from(self.running()))]
        one, two = (lifecycle.cancel(job, replace(request, at=self.now)) for request in (first, second))
        assert self.store.save(one)
        if self.store.jobs[job.id].cancel != job.cancel and two.fields:
            assert not self.store.save(two)
            two = lifecycle.cancel(self.store.jobs[job.id], replace(second, at=self.now))
        assert self.store.save(two)

    @rule(name=jobs, from_checkpoint=st.booleans())
    def retry(self, name, from_checkpoint):
        job = self.store.jobs[name]
        try:
            change = lifecycle.retry(job, self.now, from_checkpoint=from_checkpoint)
        except JobNotFinished:
            assert job.state not in FINAL
            return
        assert job.state in FINAL
        assert self.store.save(change)
        self.forgiven.pop(name, None)
        self.checkpoints[name] = self.checkpoints[name] if from_checkpoint else None

    @precondition(lambda self: self.running())
    @rule(data=st.data(), value=st.binary(min_size=1, max_size=2))
    def report(self, data, value):
        name = data.draw(st.sampled_from(self.running()))
        job = self.store.jobs[name]
        fact = NewEvent(event.CHECKPOINT, {"attempt": job.attempt, "size": len(value)})
        written = lifecycle.checkpoint(job, value) | {"progress": Progress(1)}
        if written["checkpoint"] != job.checkpoint:
            self.forgiven[name] = job.losses + self.forgiven.get(name, 0)
        assert self.store.save(Change(name, State.RUNNING, job.attempt, written, (fact,), self.now))
        self.checkpoints[name] = value

    @precondition(lambda self: self.store.past)
    @rule(data=st.data())
    def write_something_old_again(self, data):
        """A worker or client that was away: its change is refused, or is one that would still be made."""
        change = data.draw(st.sampled_from(self.store.past))
        job, refused = self.store.jobs[change.id], self.store.refused
        taken = self.store.save(change)
        current = (job.state, job.attempt) == (change.state, change.attempt)
        assert taken or self.store.refused == refused + 1
        if not taken:
            assert self.store.jobs[change.id] is job
        else:
            assert current
            self.checkpoints[change.id] = change.fields.get("checkpoint", self.checkpoints[change.id])
            if self.store.jobs[change.id].state is State.RUNNING and job.state is not State.RUNNING:
                self.seen[change.id] = self.store.jobs[change.id]

    # --- what must hold at every moment ----------------------------------------------------------------------------

    @invariant()
    def every_record_is_whole(self):
        for job in getattr(self, "store", MemoryStore()).jobs.values():
            assert job.seq == len(self.store.events[job.id]), "seq has no gap"
            assert (job.worker is not None) == (job.epoch is not None) == (job.state is State.RUNNING)
            assert (job.finished_at is not None) == (job.state in FINAL)
            assert (job.stopped is not None) == (job.state is State.CANCELLED)
            assert (job.result is not None) == (job.state is State.SUCCEEDED)
            assert job.state is not State.FAILED or job.error is not None
            assert job.state is not State.QUEUED or job.cancel is None
            assert job.checkpoint == self.checkpoints[job.id], "a checkpoint survives everything"
            assert job.run_at >= job.created_at

    @invariant()
    def every_attempt_has_one_outcome_and_every_life_one_end(self):
        for job in getattr(self, "store", MemoryStore()).jobs.values():
            facts = [written.data for written in self.store.events[job.id] if written.kind == event.STATE]
            starts = [data["attempt"] for data in facts if data["state"] is State.RUNNING]
            assert starts == list(range(1, job.attempt + 1))
            ended = [data["attempt"] for data in facts if "outcome" in data]
            assert ended == starts[: len(ended)], "one outcome per attempt, in order, and none without a start"
            assert len(starts) - len(ended) == (job.state is State.RUNNING)
            ends = [data for data in self.store.life(job.id) if data["state"] in FINAL]
            assert len(ends) == (job.state in FINAL)

    @invariant()
    def every_budget_counts_its_own_kind_and_is_never_passed(self):
        for job in getattr(self, "store", MemoryStore()).jobs.values():
            names = [name_of(data) for data in self.store.life(job.id) if "outcome" in data]
            limits = {
                "failures": job.options.retry.attempts,
                "crashes": job.options.crashes,
                "losses": job.options.losses,
            }
            for counter, kinds in COUNTERS.items():
                count = getattr(job, counter)
                forgiven = self.forgiven.get(job.id, 0) if counter == "losses" else 0
                assert count == sum(name in kinds for name in names) - forgiven
                assert count <= limits[counter]
                assert count < limits[counter] or job.state in FINAL, "a start is left for whoever may start"

    def teardown(self):
        """From wherever it is, every job comes to exactly one end when workers go on."""
        if not hasattr(self, "store"):
            return
        for name in self.store.jobs:
            for _ in range(60):
                job = self.store.jobs[name]
                if job.state in FINAL:
                    break
                if job.state is State.QUEUED:
                    self.claim(name)
                else:
                    self.write_outcome(job, Failed(ERROR), 0.5)
            assert self.store.jobs[name].state in FINAL
        self.every_record_is_whole()
        self.every_attempt_has_one_outcome_and_every_life_one_end()
        self.every_budget_counts_its_own_kind_and_is_never_passed()


class TestHistories(Histories.TestCase):
    """Run by pytest; hypothesis shrinks what fails to a short history."""

    settings = settings(max_examples=80, stateful_step_count=40)
