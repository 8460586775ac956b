"""Why a job waits: which of several reasons is told, and in which words."""

from dataclasses import replace

import pytest

from heavylift.core.job import Error, Job, State
from heavylift.core.limits import Gate
from heavylift.core.options import Options
from heavylift.core.queue import MOST_AHEAD, ClosedGate, Pause, Standing
from heavylift.core.retry import Retry
from heavylift.core.waiting import Server, explain, text

NOW = 1_800_000_000.0
JOB = Job("a", "build", b"{}", Options(queue="reports", retry=Retry(4)), State.QUEUED, NOW, NOW)
HELD = ClosedGate(Gate("concurrency", "account:7", 1), ("j1",))
PAUSE = Pause(NOW - 60, "ann", "the database moves")

# Each closes the way by itself; those that stand first are told first.
OBSTACLES = {
    "queue-paused": {"pause": PAUSE},
    "queue-concurrency": {"full": 2},
    "queue-rate": {"opens_at": NOW + 3},
    "key-concurrency": {"gate": HELD},
}
SERVERS = {
    "no-worker": [],
    "queue-not-served": [Server(("other",)), Server(("heavylift.doctor",))],
    "task-not-known": [Server((), ("other",)), Server(("other",), ("build",))],
    None: [Server(("reports",), ("build", "other"))],
}
ORDER = (
    "scheduled",
    "queue-paused",
    *(code for code in SERVERS if code),
    "queue-concurrency",
    "queue-rate",
    "key-concurrency",
)


def waiting(job=JOB, servers=SERVERS[None], **standing):
    return explain(job, Standing(**standing), servers, NOW)


def line(job=JOB, servers=SERVERS[None], **standing):
    return text(job, waiting(job, servers, **standing), NOW)


@pytest.mark.parametrize("first", ORDER)
def test_of_all_reasons_the_one_is_told_that_has_to_change_first(first):
    """That one and all that stand behind it hold; it is told."""
    holds = ORDER[ORDER.index(first) :]
    standing = {name: value for code, values in OBSTACLES.items() if code in holds for name, value in values.items()}
    servers = next((found for code, found in SERVERS.items() if code in holds), SERVERS[None])
    job = replace(JOB, run_at=NOW + 60) if "scheduled" in holds else JOB
    assert waiting(job, servers, **standing).code == first


def test_with_nothing_in_its_way_it_stands_in_line():
    assert waiting(ahead=3).code == "in-line"
    assert waiting(opens_at=NOW).code == "in-line"
    assert waiting(servers=[Server()]).code == "in-line"
    reserved = replace(JOB, options=Options(queue="heavylift.own"))
    assert waiting(reserved, [Server()]).code == "queue-not-served"
    assert waiting(reserved, [Server(("heavylift.own",))]).code == "in-line"


LATER = replace(JOB, run_at=NOW + 90.5, attempt=2)
LINES = {
    "next in line": {},
    "1 ahead": {"ahead": 1},
    "10,000 or more ahead": {"ahead": MOST_AHEAD},
    "scheduled for 2027-01-15T08:01:30Z (in 1 min 30 s)": {"job": replace(LATER, attempt=0)},
    "goes on at 2027-01-15T08:01:30Z (in 1 min 30 s): it asked for a pause": {"job": LATER},
    "retry at 2027-01-15T08:01:30Z (in 1 min 30 s) after failure 2 of 4": {
        "job": replace(LATER, failures=2, crashes=1, error=Error("failed", "x"))
    },
    "retry at 2027-01-15T08:01:30Z (in 1 min 30 s) after crash 1 of 3": {
        "job": replace(LATER, failures=2, crashes=1, error=Error("crashed", "x"))
    },
    "retry at 2027-01-15T08:01:30Z (in 1 min 30 s) after loss 3 of its worker": {
        "job": replace(LATER, failures=2, losses=3, error=Error("lost", "x"))
    },
    "queue 'reports' is paused by ann since 2027-01-15T07:59:00Z (the database moves)": {"pause": PAUSE, "ahead": 3},
    "queue 'reports' is paused since 2027-01-15T07:59:00Z": {"pause": Pause(NOW - 60)},
    "no live worker takes jobs": {"servers": [], "ahead": 5},
    "no live worker serves queue 'reports'": {"servers": SERVERS["queue-not-served"]},
    "no live worker that serves queue 'reports' knows the task 'build'": {"servers": SERVERS["task-not-known"]},
    "queue 'reports' runs as many jobs as it may (2), 4 ahead": {"full": 2, "ahead": 4},
    "the rate of queue 'reports' lets the next one start at 2027-01-15T08:00:03Z (in 3.0 s), 1 ahead": {
        "opens_at": NOW + 3,
        "ahead": 1,
    },
    "key 'account:7' is held by job j1 (Concurrency 1)": {"gate": HELD},
    "key 'account:7' is held by 1 job (Concurrency 1)": {"gate": replace(HELD, holders=())},
    "key 'k' is held by 2 jobs: j1, j2 (Concurrency 2), 7 ahead": {
        "gate": ClosedGate(Gate("concurrency", "k", 2), ("j1", "j2")),
        "ahead": 7,
    },
    "key 'k' is held by 1,000 jobs, among them j1, j2, j3 (Concurrency 1,000)": {
        "gate": ClosedGate(Gate("concurrency", "k", 1000), ("j1", "j2", "j3")),
    },
    "rate 'crm' (6/min) lets the next one start at 2027-01-15T08:00:03Z (in 3.0 s)": {
        "gate": ClosedGate(Gate("rate", "crm", "6/min"), (), NOW + 3)
    },
    "another job with its unique key runs: j1": {"gate": ClosedGate(Gate("unique", "report:7", 1), ("j1",))},
}


@pytest.mark.parametrize(("said", "given"), LINES.items(), ids=LINES)
def test_a_reason_is_one_plain_line(said, given):
    assert line(**given) == said


def test_what_others_wrote_stays_in_its_line_and_short():
    said = line(pause=Pause(NOW, "{when}\nann", "x" * 1000))
    assert "\n" not in said
    assert "by {when} ann since" in said
    assert len(said) < 300
    key = ClosedGate(Gate("concurrency", "{x}" * 200, 1), ("j1",))
    assert len(line(gate=key)) < 300


def test_times_that_no_calendar_has_are_told_as_the_last_one():
    assert "9999-12-31" in line(replace(JOB, run_at=1e15))
