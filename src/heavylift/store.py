"""CONTRACT Store: keeps jobs and their events, and decides who may run what.

A store holds one truth: a job, its events, its result and the right to run it are written together, in one
transaction, or not at all. The prose of each method is the list of cases of `heavylift.testing.StoreContract`;
what passes that suite is a store.

Rules for all of them:

- Every method takes and returns many, and answers per item: one duplicate, full queue or stale fence never fails its
  neighbours, and a refused item writes nothing. Concurrent calls of one process share transactions (group commit).
- What a call returned is durable: it survives the death of any process.
- Every write of a job raises `seq` by the number of its events, which get the numbers in between: 1, 2, 3, … without
  a gap.
- Methods raise StoreUnavailable when the store cannot be reached or written, never an error of a driver. Nothing was
  changed, or the answer was lost on its way: to try again is safe either way. (For `claim` see `held`.)
- Hints (`watch`) only save time. Nothing depends on one arriving.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, Unpack

from heavylift.core.errors import StoreError
from heavylift.core.job import CancelRequest, Job, State

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from types import TracebackType

    from heavylift.core.errors import DuplicateJob, SubmitError
    from heavylift.core.event import Event
    from heavylift.core.finding import Finding
    from heavylift.core.job import Change, NewEvent
    from heavylift.core.limits import Rate
    from heavylift.core.options import Slots
    from heavylift.core.queue import Queue, QueueValues, Standing
    from heavylift.core.retention import Retention
    from heavylift.core.tally import Key


class Clock(Protocol):
    """Where a store takes its time from, so that tests own it."""

    def wall(self) -> float:
        """Unix seconds: for `run_at`, `created_at` and other times that people read."""

    def monotonic(self) -> float:
        """Seconds that never jump and are the same in all processes of one boot: for leases and rates."""


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC: one clock for all processes of a boot, and it does not count a suspend."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Added:
    """A job that is in the store. `created` False: it was there before (same id), or its unique key's holder is."""

    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker and its lease. `id` names it for its life; `epoch` grows when it begins anew after it was declared dead.

    (`boot_id`, `pid_namespace`, `pid`, `process_started`) identify its process on this machine; `process_started` is
    the kernel's start time in clock ticks. `concurrency` hosts; `queues` empty for all. `started_at` Unix seconds.
    `version` of Heavylift; empty where it is not known. `hosts`: how many there are, by kind and phase with a dot
    between, such as "exclusive.ready". `tasks`: names of those that its application has; empty: it is given any.
    """

    id: str
    epoch: int
    hostname: str
    pid: int
    process_started: int
    boot_id: str
    pid_namespace: str
    concurrency: int
    queues: tuple[str, ...] = ()
    started_at: float = 0.0
    running: int = 0
    draining: bool = False
    version: str = ""
    hosts: Mapping[str, int] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker as others see it. `beat_age` seconds since its last beat; `dead`: its lease is over."""

    worker: WorkerRecord
    beat_age: float
    dead: bool


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """A job that this worker runs is to be stopped."""

    job: str
    attempt: int
    request: CancelRequest


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody wants to know where the code of an attempt is now; its worker answers under `id`."""

    id: str
    job: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What a beat brings back. `alive` False: this epoch was declared dead, so stop everything and begin a new one."""

    alive: bool
    cancels: tuple[CancelOrder, ...] = ()
    questions: tuple[Question, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs to find; newest first. Empty means any. `page_token` as a page returned it; `limit` 1-1000."""

    states: tuple[State, ...] = ()
    task: str | None = None
    queue: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    limit: int = 50
    page_token: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Found jobs, and the token of the next page, None at the end."""

    jobs: tuple[Job, ...]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class Schema:
    """Versions of a store's schema: the one that `open` found (0 in an empty store), and the one that it left."""

    before: int
    after: int


DEBOUNCE_MOST = 10
"""How many times its `debounce` a job waits at most, however often its key is submitted."""


class LeaseLost(StoreError):
    """This epoch of the worker was declared dead: whatever it runs may be running elsewhere by now."""

    code = "lease-lost"


class Hints(Protocol):
    """Wake-ups of one waiter. An async context manager; entering it makes the store send hints here."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def wait(self, timeout: float) -> bool:
        """True when a hint came since the last call, or comes within `timeout` seconds; several count as one."""


class Store(Protocol):
    """The contract. One object per process and store; safe to use from several tasks of one event loop."""

    @property
    def url(self) -> str:
        """Where the jobs live, as any other process can open it; complete when the store is open."""

    @property
    def refused(self) -> int:
        """How many changes this object was refused because of their fence."""

    @property
    def schema(self) -> Schema:
        """What the open store's `open` made of its schema."""

    async def open(self) -> None:
        """Connect; create the schema of an empty store, migrate an older one; idempotent.

        Raises ConfigError for a URL that cannot be used, SchemaTooNew, StoreUnavailable (read-only, no directory).
        """

    async def diagnose(self) -> list[Finding]:
        """What is good and bad about the place where the jobs live, and the way there; for people who look for a fault.

        - Works on a store that is not open, and on one that cannot be opened; never raises for what it finds.
        - Changes nothing: no store is created or migrated.
        - The checks `place` and `schema` are among the findings, unless `place` failed; while one of them is no `ok`
          (or `place` only says that there is no store yet), `open` would fail, create or migrate.
        - A store that has a budget of connections says how much of it is used (`connections`), one with a clock of its
          own how far it is from ours (`store clock`).
        """

    async def close(self) -> None:
        """Finish what was begun and let go of everything; idempotent."""

    async def add(self, jobs: Sequence[tuple[Job, NewEvent]]) -> list[Added | SubmitError]:
        """Keep new queued jobs, each with its first event, in order.

        - A job whose id exists changes nothing and returns the stored one (`created` False): submits can be repeated.
        - `options.unique`: the key belongs to each job that was added with it, until it is over, or begins its first
          attempt (its `unique_until` "start"), and for its `unique_for` seconds from its `created_at` at least, also
          when it was pruned. A job that is over and is queued anew has its key again. Of those that have a key, in
          order of the new job's `on_conflict`:
          "return": one that waits, else one that runs, else the last one that is over, is returned; DuplicateJob if
          that one was pruned. "reject": DuplicateJob. "replace": those that wait are cancelled, those that run are
          asked to stop (as `lifecycle.replaced` says), those that are over lose the key, and the new one is kept.
          "queue-one": one that waits is returned; without one, the new one is kept.
        - `options.debounce`: those that wait are cancelled and the new one is kept, whatever `on_conflict` says; its
          `run_at` is at most DEBOUNCE_MOST × debounce after the first of a row of such replacements was created.
        - A queue with `max_size`: QueueFull when as many jobs are queued (due or not), those that the new one takes the
          place of not counted; `retry_after` 1-300 whole seconds until it has a place again, by what runs and how
          long its jobs took lately, 300 when nobody knows.
        - The gates of `options.limits` get the limits that this job brings; a refused job changes none.
        - A refused job leaves no trace; its neighbours are kept.
        - After the write, one idle worker gets a hint if a job is due now, and if one of those that wait for their time
          or a rate is the first to become so: it asks for `next_due`.
        """

    async def claim(self, worker: str, epoch: int, slots: Slots, queues: Collection[str] = ()) -> list[Job]:
        """Begin attempts of due jobs for this worker, in each place (`options.run_in`) as many as it has slots for
        there: state running, attempt + 1, its event, its holder.

        - What waits for one place never holds up what runs in another.
        - A lane is what jobs share that have the same queue, place, gates and `fair_share`; those that some worker did
          not take since it does not know their task stand in one of that task. Order: queues in turn, least recently
          served first; within a queue lanes in turn, least recently served first (to give nothing is no turn); within a
          lane by rank = run_at − 60 s × priority, then by order of arrival.
        - `queues` non-empty names the only ones to serve, in this order; a mapping gives their weights: slots are
          divided by weight (rounded up) between those that have something to claim, and what one cannot use goes to the
          others. Empty, all are served but those whose name begins with "heavylift.".
        - Never a job with a future `run_at`, of a paused queue, or beyond its queue's concurrency or rate.
        - Never a job beyond the limit of one of its gates (`core.limits.gates`), over all queues and workers: jobs that
          run behind a "concurrency" gate, starts of a "rate" (`core.limits.room`), and behind a "unique" gate never
          while any job with that unique key runs. What dead workers held counts until it is settled.
        - Never a job whose task the worker's record does not name, if it names any; such a job hides none behind it.
        - A job whose `expires_at` is past and that never began is not begun: it is settled by `lifecycle.expire`, and
          counted (as "finished" and as a fault), for no worker hears of it.
        - Two claims, of whatever processes, never return the same attempt.
        - Costs depend on the jobs returned, never on the jobs waiting, scheduled, or behind closed gates.
        - LeaseLost when this epoch was declared dead or the worker never beat.
        """

    async def next_due(self) -> float | None:
        """When some waiting job may become claimable by time alone (its `run_at`, a rate), in Unix seconds; None when
        nothing but a change of the store can make one so. Hints tell when it comes nearer, and not when it is there.
        Rates go by the monotonic clock: of one, it is right as long as the wall clock is not set.
        """

    async def reserve(self, rate: Rate) -> float:
        """Take the next free place in a rate of starts, the gate of its key, and return how many seconds to wait until
        it is due (0: it is now). It is shared with the jobs behind that gate, and gets the limit that is given.
        """

    async def held(self, worker: str, epoch: int) -> dict[str, int]:
        """Which running jobs this epoch of the worker holds, by id, with their attempt: what a worker asks after a
        claim that failed, since that may have been carried out and its answer lost. Dead or unknown: what it held.
        """

    async def save(self, changes: Sequence[Change]) -> list[int | DuplicateJob | None]:
        """Write changes with their events; each answer is the job's new `seq`, or None when the fence refused it.

        - Refused: another state or attempt than `change.state` and `change.attempt`, another last event than
          `change.seq` if that is given, no such job, or a change to queued, or of the cancel request, that was decided
          by another cancel request than the job's. It changes nothing and is counted (`refused`).
        - DuplicateJob, and nothing is changed: a job that is over is to be queued, and another one that is not over
          has its unique key.
        - Only `change.fields` are written. A job that becomes queued, or that is queued and gets other options or
          another `run_at`, stands in its lane by these; one that stops running frees the slots that it held, of its
          queue and its gates; one that is over frees its unique key and gets its retention.
        - Jobs of `change.then` are added in the same write, as `add` does, but no `max_size` refuses them. None is when
          the change is refused.
        - Progress events are thinned to at most 256 a job: the newest is always kept.
        - Several changes of one job in one call are written in order.
        - Followers get a hint; the worker of a job whose cancel was requested gets one; a queued job wakes a worker.
        """

    async def beat(self, worker: WorkerRecord, lease: float) -> Mailbox:
        """Renew the worker's lease for `lease` seconds (registering it at first) and bring back its mailbox.

        - `alive` False when this epoch was declared dead; a higher epoch registers anew.
        - `cancels`: every job that it holds and whose cancel was requested, at each beat until it is settled.
        - `questions`: those about attempts that it holds, at each beat until they are answered or forgotten.
        """

    async def ask(self, question: Question, lasts: float) -> str | None:
        """Ask the worker that runs an attempt where its code is; the id under which `answered` will have the answer,
        or None when that attempt does not run (any more).

        - A question that waits for its answer stands for later ones about the same attempt.
        - It is forgotten `lasts` seconds after it was asked, and its answer with it; of several who ask, when the last
          of these times is over.
        - Nothing of the job changes: no event, no `seq`.
        - The worker gets a hint.
        """

    async def answer(self, answers: Mapping[str, bytes]) -> None:
        """Keep answers, by the ids of their questions; one whose question is forgotten goes unheard. Followers get a
        hint.
        """

    async def answered(self, question: str) -> bytes | None:
        """The answer to a question, None while there is none, and when it is forgotten."""

    async def retire(self, worker: str, epoch: int) -> None:
        """A worker that stops says good-bye: its record goes. What it still holds counts as lost at the next sweep."""

    async def sweep(self, worker: str, *, others: bool) -> list[Job]:
        """Declare workers dead, and return up to 200 running jobs whose worker is dead or unknown.

        - Dead: with `others`, one whose lease ran out; always, one of this boot and pid namespace whose process is
          gone (same pid with another start time counts as gone). Never `worker` itself.
        - A `worker` that has not beaten for half of its own lease declares nobody whose process may live: it was away
          itself (suspended with the others, say), and knows nothing of them.
        - Cheap while there is nothing to do: workers of one machine look every second.
        - Declaring is one write; a dead epoch's claims, beats and saves are refused from then on (its jobs are
          settled by whoever swept, under the fence).
        - The jobs are returned again by each sweep until somebody settled them; of one worker's, those with most losses
          first.
        """

    async def expired(self) -> list[Job]:
        """Up to 200 queued jobs whose `expires_at` is past and that never began; each time until somebody settled
        them. Cheap while there are none.
        """

    async def standing(self, ids: Sequence[str]) -> dict[str, Standing]:
        """Where those of these jobs stand that are queued. Costs are bounded by MOST_AHEAD for each."""

    async def get(self, ids: Sequence[str]) -> list[Job | None]:
        """The jobs, in the order of `ids`, None for an unknown one. Raises JobPruned when one id alone was asked for
        and its record was pruned less than a day ago.
        """

    async def find(self, query: Query) -> Page:
        """Jobs by state, task, queue and labels (all must match), newest first. A bad page token: ConfigError."""

    async def events(self, cursors: Mapping[str, int], limit: int = 1000) -> list[Event]:
        """Events of the given jobs with `seq` above each cursor, by job and seq; at most `limit`."""

    async def queues(self) -> list[Queue]:
        """All queues that have settings or jobs, by name. Reads counters, never the jobs."""

    async def set_queue(self, name: str, **given: Unpack[QueueValues]) -> Queue:
        """Change what is given of a queue's settings, creating its record. `by` and `reason` say who pauses it and why;
        who pauses what is paused changes that, but not since when it is. `unlimited` names what to lift ("concurrency",
        "max_size", "rate", "keep"). Resuming or raising a limit wakes workers; running jobs are never touched.

        Raises ConfigError for a limit that is none, and for a `max_size` below the number of jobs that are queued.
        """

    async def workers(self) -> list[WorkerStatus]:
        """All known workers, by start; dead ones until their jobs are settled."""

    async def count(self, added: Mapping[Key, float]) -> None:
        """Add to the counts of all workers that there ever were, durably. An answer that was lost may have it told, and
        added, once more: counts decide nothing.
        """

    async def counts(self) -> dict[Key, float]:
        """What all calls of `count` on this store, by whatever process, add up to."""

    async def prune(self, retention: Retention) -> int:
        """Remove up to 200 finished jobs that retention lets go, with events; returns how many. Their ids raise
        JobPruned for a day. Also forgets old records of pruned ids, dead workers, keys, lanes and gates.

        `retention` holds for each queue without its own (`Queue.keep`), and neither for jobs with `options.keep`, which
        counts each task's jobs in each queue; of several such jobs the one that ended last says what is kept.
        Unfinished work is never delayed: one call takes milliseconds, and fewer jobs go when much belongs to them.
        """

    def watch(self, *, worker: str | None = None, ends: bool = False) -> Hints:
        """Hints for a worker (claimable jobs, cancels), or without `worker` for a follower (any job changed; with
        `ends`: some job is over).
        """
