"""When a job will start, and when it will be over."""

import random
from dataclasses import replace

import pytest

from heavylift.core.estimate import FALL, WINDOW, Estimate, Pace, finish, left, start
from heavylift.core.job import Job, Progress, State
from heavylift.core.limits import Gate
from heavylift.core.options import Options
from heavylift.core.queue import ClosedGate, Pause, Standing
from heavylift.core.units import about, spoken
from heavylift.core.waiting import Server, explain

NOW = 1_800_000_000.0
QUEUED = Job("a", "build", b"{}", Options(), State.QUEUED, NOW, NOW)
RUNNING = replace(QUEUED, state=State.RUNNING, attempt=1, started_at=NOW)


# --- running ------------------------------------------------------------------------------------------------------


def rates(reports, begun=0.0):
    pace = Pace(begun)
    return [pace.heard(percent, at) for at, percent in reports]


def test_the_first_report_tells_how_fast_a_job_has_gone_since_it_began():
    assert rates([(10, 5)]) == [0.5]


def test_one_that_goes_on_from_a_checkpoint_is_not_taken_for_one_that_was_so_fast():
    assert rates([(1, 60), (2, 61), (3, 62)], begun=None) == [None, 1.0, 1.0]


def test_how_it_goes_now_counts_and_not_how_it_went_long_ago():
    fast = [(second, second) for second in range(1, 31)]
    slow = [(30 + second, 30 + second / 10) for second in range(1, 91)]
    found = rates(fast + slow)
    assert found[29] == pytest.approx(1.0)
    assert found[-1] == pytest.approx(0.1)
    # Never is more than two windows looked back at.
    assert rates([*fast, (30 + 2 * WINDOW, 36), (31 + 2 * WINDOW, 36.1)])[-1] < 0.2


def test_an_uneven_pace_is_told_evenly():
    """Steps of 0.1 to 3 s, each 1 %: the rates of a window differ little where single steps differ by thirty."""
    chance, at, found, pace = random.Random(7), 0.0, [], Pace(0.0)
    for percent in range(1, 101):
        at += chance.uniform(0.1, 3)
        found.append(pace.heard(percent, at))
    mean = 100 / at
    assert all(mean / 2 < rate < mean * 2 for rate in found[10:])


def test_a_job_that_falls_back_is_timed_anew():
    assert rates([(10, 50), (20, 100), (21, 0), (31, 10)]) == [5.0, 5.0, None, 1.0]
    assert rates([(10, 50), (20, 40), (21, 44)]) == [5.0, None, 4.0]


def test_a_total_that_grows_a_little_changes_little():
    first, second = rates([(10, 50), (11, 50 - FALL)])
    assert first == 5.0
    assert second == pytest.approx(45 / 11)


def test_one_that_comes_no_further_has_no_pace():
    assert rates([(5, 0), (6, 0)]) == [None, None]
    assert rates([(0, 5)]) == [None], "in no time"
    assert rates([(-10, 5)]) == [None], "a clock that was put back"


def ran(percent=50.0, rate=2.0, at=NOW + 10, **changes):
    return replace(RUNNING, progress=Progress(percent=percent, rate=rate, at=at), **changes)


def test_a_running_job_is_over_when_the_rest_is_done_at_its_pace():
    assert finish(ran(), NOW + 10) == Estimate("progress", 25.0, finishes_at=NOW + 35)
    assert finish(ran(), NOW + 20) == Estimate("progress", 15.0, finishes_at=NOW + 35)


NOTHING = {
    "no progress": (RUNNING, NOW),
    "no percent": (ran(percent=None), NOW + 10),
    "no pace": (ran(rate=None), NOW + 10),
    "long ago": (ran(), NOW + 36),
    "of the attempt before": (ran(started_at=NOW + 11), NOW + 12),
    "waiting again": (ran(state=State.QUEUED), NOW + 10),
    "over": (ran(state=State.SUCCEEDED), NOW + 10),
}


@pytest.mark.parametrize(("job", "now"), NOTHING.values(), ids=NOTHING)
def test_of_such_a_job_nothing_is_said(job, now):
    assert left(job, now) is None
    assert finish(job, now) is None


# --- waiting ------------------------------------------------------------------------------------------------------


ONE = (Server(),)


def starts(job=QUEUED, servers=ONE, **standing):
    waiting = explain(job, Standing(**standing), servers, NOW)
    return start(job, waiting, servers, NOW)


def test_a_waiting_job_starts_when_those_before_it_have_made_room():
    assert starts(ahead=9, drain_rate=0.5) == Estimate("queue", 20.0, starts_at=NOW + 20)


def test_free_places_are_taken_first():
    two = (Server(free=1), Server(free=1), Server(("other",), free=5), Server((), ("other",), 5))
    assert starts(servers=two, ahead=1) == Estimate("queue", 0.0, starts_at=NOW)
    assert starts(servers=two, ahead=4, drain_rate=1.0) == Estimate("queue", 3.0, starts_at=NOW + 3)
    overfull = (Server(free=-3), Server(free=1))
    assert starts(servers=overfull) == Estimate("queue", 0.0, starts_at=NOW)


def test_free_places_help_no_queue_that_is_full():
    full = starts(servers=(Server(free=9),), full=2, ahead=1, drain_rate=1.0)
    assert full == Estimate("queue", 2.0, starts_at=NOW + 2)


def test_a_coroutine_needs_no_process():
    job = replace(QUEUED, options=Options(run_in="loop"))
    assert starts(job) == Estimate("queue", 0.0, starts_at=NOW)
    assert starts(job, ahead=3, drain_rate=1.0) == Estimate("queue", 3.0, starts_at=NOW + 3)


def test_nothing_starts_before_its_time():
    job = replace(QUEUED, run_at=NOW + 60)
    assert starts(job) == Estimate("schedule", 60.0, starts_at=NOW + 60)
    assert starts(job, ahead=9, drain_rate=1.0) == Estimate("schedule", 60.0, starts_at=NOW + 60)
    assert starts(job, ahead=99, drain_rate=1.0) == Estimate("queue", 100.0, starts_at=NOW + 100)


def test_the_rate_of_a_queue_holds_up_its_next_job():
    place = (Server(free=1),)
    assert starts(servers=place, rate="6/min", opens_at=NOW + 7) == Estimate("rate", 7.0, starts_at=NOW + 7)
    assert starts(servers=place, rate="6/min") == Estimate("queue", 0.0, starts_at=NOW)


def test_behind_the_rate_of_a_queue_jobs_start_at_its_intervals():
    place = {"servers": (Server(free=1),), "rate": "6/min"}
    third = Estimate("rate", 27.0, starts_at=NOW + 27)
    assert starts(**place, opens_at=NOW + 7, ahead=2) == third
    assert starts(**place, opens_at=NOW + 7, ahead=2, drain_rate=9.0) == third, "it has drained faster, once"
    assert starts(**place, opens_at=NOW + 7, ahead=2, drain_rate=0.001) == third, "it has stood still, until now"
    assert starts(**place, ahead=2) == Estimate("rate", 20.0, starts_at=NOW + 20)
    # Where no place is free, the slower of the two counts.
    assert starts(rate="6/min", ahead=2, drain_rate=9.0) == Estimate("rate", 20.0, starts_at=NOW + 20)
    assert starts(rate="6/min", ahead=2, drain_rate=0.1) == Estimate("queue", 30.0, starts_at=NOW + 30)
    assert starts(rate="6/min", ahead=2) is None
    later = replace(QUEUED, run_at=NOW + 60)
    assert starts(later, **place, ahead=2) == Estimate("schedule", 60.0, starts_at=NOW + 60)


def test_behind_the_rate_of_a_key_jobs_start_at_its_intervals():
    gate = ClosedGate(Gate("rate", "crm", "6/min"), (), NOW + 3)
    assert starts(gate=gate, ahead=2) == Estimate("rate", 23.0, starts_at=NOW + 23)


UNKNOWN = {
    "paused": {"pause": Pause(NOW), "drain_rate": 1.0},
    "paused, and later": {"job": replace(QUEUED, run_at=NOW + 9), "pause": Pause(NOW)},
    "no worker": {"servers": (), "drain_rate": 1.0},
    "no worker for the task": {"servers": (Server((), ("other",)),), "drain_rate": 1.0},
    "a key that is held": {"gate": ClosedGate(Gate("concurrency", "k", 1), ("b",)), "drain_rate": 1.0},
    "a namesake that runs": {"gate": ClosedGate(Gate("unique", "k", 1), ("b",)), "drain_rate": 1.0},
    "nothing ended lately": {"ahead": 3},
}


@pytest.mark.parametrize("given", UNKNOWN.values(), ids=UNKNOWN)
def test_of_such_a_wait_nothing_is_said(given):
    assert starts(**given) is None


# --- words --------------------------------------------------------------------------------------------------------

GUESSES = {0: "~1 s", 1.4: "~1 s", 40: "~40 s", 89: "~89 s", 90: "~2 min", 119: "~2 min", 5399: "~90 min"}
GUESSES |= {5400: "~2 h", 86400: "~24 h", 36 * 3600: "~2 d"}


@pytest.mark.parametrize(("seconds", "said"), GUESSES.items(), ids=str)
def test_a_guess_is_told_in_one_unit(seconds, said):
    assert about(seconds) == said


def test_seconds_are_told_in_two_units_at_most():
    said = [spoken(number) for number in (-1, 0.25, 0.9996, 59.94, 90, 3600, 90061)]
    assert said == ["0 ms", "250 ms", "1.0 s", "59.9 s", "1 min 30 s", "1 h", "1 d 1 h"]
    assert spoken(90061, short=True) == "1 d"
