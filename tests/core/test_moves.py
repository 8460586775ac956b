"""Another place in the line, and what a queue can be set to: the rules."""

import pytest

from heavylift import ConfigError
from heavylift.core import lifecycle
from heavylift.core.errors import JobNotWaiting
from heavylift.core.options import Options
from heavylift.core.queue import check, place, values

NOW = 1000.0


def waiting(**options):
    job, _ = lifecycle.submit("a", "task", b"{}", Options().using(**options), NOW)
    return job


def test_a_move_changes_what_was_asked_for_and_nothing_else():
    job = waiting(priority=1, unique="k", queue="q")
    change = lifecycle.move(job, NOW + 5, priority=7)
    assert change.fields == {"options": Options().using(priority=7, unique="k", queue="q")}
    assert change.events[0].data == {"state": "queued", "attempt": 0, "moved": True, "priority": 7}
    later = lifecycle.move(job, NOW + 5, run_at=NOW + 60)
    assert later.fields == {"run_at": NOW + 60}
    assert later.events[0].data["run_at"] == NOW + 60


def test_a_time_that_is_past_means_now():
    assert lifecycle.move(waiting(delay=60), NOW + 5, run_at=0).fields == {"run_at": NOW + 5}


def test_a_move_to_where_the_job_stands_is_none():
    job = waiting(priority=3, delay=60)
    assert lifecycle.move(job, NOW, priority=3, run_at=job.run_at).fields == {}


def test_a_move_is_of_the_job_as_it_was_read():
    job = waiting()
    assert lifecycle.move(job, NOW, priority=1).seq == job.seq


def test_what_runs_or_is_over_is_not_moved():
    running = lifecycle.claim(waiting(), "w", 1, NOW).apply(waiting())
    with pytest.raises(JobNotWaiting, match="it is running"):
        lifecycle.move(running, NOW, priority=1)


def test_a_place_is_a_priority_or_a_time_or_both():
    assert place(NOW, priority=3, run_at=None, delay=None) == (3, None)
    assert place(NOW, priority=None, run_at=None, delay="10m") == (None, NOW + 600)
    assert place(NOW, priority=0, run_at=5000, delay=1) == (0, 5000.0)
    assert place(NOW, priority=None, run_at=None, delay=0) == (None, NOW)


@pytest.mark.parametrize("wrong", [{}, {"priority": 10}, {"delay": -1}, {"run_at": "soon"}], ids=str)
def test_a_place_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError):
        place(NOW, **wrong)


def test_none_lifts_a_limit_and_what_is_not_given_stays():
    assert values({"concurrency": 2, "rate": None}) == {"concurrency": 2, "rate": None, "unlimited": ["rate"]}
    with pytest.raises(ConfigError, match="Did you mean 'max_size'"):
        values({"maxsize": 2})


def test_who_and_why_go_with_a_pause():
    check("q", {"paused": True, "by": "anna", "reason": "why"})
    with pytest.raises(ConfigError, match="reason: it goes with a pause"):
        check("q", {"reason": "why"})
