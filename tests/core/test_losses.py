"""Who pays for a worker that vanished: whoever may have killed it, until one is suspected, and never for long."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.core import lifecycle
from heavylift.core.job import Error, Job, State
from heavylift.core.options import Options
from heavylift.core.outcome import Interrupted

NOW = 1770000000.0
LOST = Interrupted("its worker vanished", lost=True)
BUDGET = Options().losses


def judged(jobs):
    """What the rules make of all that dead workers held, found at once."""
    return lifecycle.lose(jobs, lifecycle.suspect(jobs, {}))


def job(name="j1", **fields) -> Job:
    options = Options().using(**fields.pop("options", {}))
    return replace(lifecycle.submit(name, "build", b"{}", options, NOW)[0], **fields)


def claimed(one, worker="w1", now=NOW) -> Job:
    return lifecycle.claim(one, worker, 1, now).apply(one)


def lost(jobs, now=NOW, random=0.5) -> list[Job]:
    """These jobs after their workers vanished."""
    return [lifecycle.settle(one, outcome, now, random).apply(one) for one, outcome in judged(jobs)]


def test_the_first_two_losses_wait_for_nothing_and_later_ones_longer_and_longer():
    """A restart of the worker must not delay what it ran; a poison job must not take down one after the other."""
    running = claimed(job())
    waits = [lost([replace(running, losses=losses)], random=0.999999)[0].run_at - NOW for losses in range(19)]
    assert waits[:5] == pytest.approx([0, 0, 5, 10, 20], rel=1e-4)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(300, rel=1e-4)


def test_what_a_restart_of_the_worker_cut_short_keeps_its_place_in_the_line():
    """As with a hand-back: an hour of backlog must not come before it."""
    running = claimed(job(), now=NOW + 500)
    for losses, waits in ((0, False), (1, False), (2, True)):
        [after] = lost([replace(running, losses=losses)], NOW + 900)
        assert (after.run_at > NOW + 900) if waits else (after.run_at == NOW)


def test_a_lost_job_ends_with_the_reason():
    """Its error has the code of a loss."""
    [after] = lost([claimed(job(losses=1))])
    assert after.error == Error("lost", "its worker vanished")
    [after] = lost([claimed(job(losses=BUDGET - 1))])
    assert (after.state, after.losses, after.error) == (State.FAILED, BUDGET, Error("lost", "its worker vanished"))


def test_nobody_knows_at_first_so_all_that_a_worker_held_are_charged():
    assert [after.losses for after in lost([claimed(job("a")), claimed(job("b", losses=1))])] == [1, 2]


def test_beside_a_suspect_nobody_else_pays():
    """They go back at once, to where they stood, with the error that they had."""
    jobs = [claimed(job("a", losses=2)), claimed(job("b", losses=1)), claimed(job("c")), claimed(job("d", losses=2))]
    after = lost(jobs, NOW + 9)
    assert [one.losses for one in after] == [3, 1, 0, 3]
    assert [one.run_at for one in after[1:3]] == [NOW, NOW]
    assert [one.error for one in after[1:3]] == [None, None]


def test_a_suspect_in_another_worker_explains_nothing():
    jobs = [claimed(job("a", losses=7), "w1"), claimed(job("b"), "w2"), replace(claimed(job("c"), "w1"), epoch=2)]
    assert [one.losses for one in lost(jobs)] == [8, 1, 1]


def test_a_new_checkpoint_starts_the_count_anew():
    """Who comes forward in each of its lives is never given up, however often its worker dies."""
    one = job()
    for life in range(3 * BUDGET):
        running = claimed(one)
        running = replace(running, **lifecycle.checkpoint(running, b"%d" % life))
        assert running.losses == 0
        [one] = lost([running])
        assert (one.state, one.losses, one.checkpoint) == (State.QUEUED, 1, b"%d" % life)


def test_the_same_checkpoint_again_is_no_step_forward():
    running = claimed(job(losses=5, checkpoint=b"1"))
    assert lifecycle.checkpoint(running, b"1") == {"checkpoint": b"1"}
    assert lifecycle.checkpoint(running, b"2") == {"checkpoint": b"2", "losses": 0}
    assert lifecycle.checkpoint(job(), b"2") == {"checkpoint": b"2"}


# --- whatever happens ---------------------------------------------------------------------------------------------

held = st.lists(
    st.tuples(st.sampled_from(["w1", "w2"]), st.integers(0, 1) | st.integers(0, BUDGET - 1)), min_size=1, max_size=9
)


@given(held)
def test_each_death_is_charged_to_somebody_and_from_the_third_loss_on_to_the_most_suspected(found):
    """The first is why poison comes to an end whatever runs beside it, the second why innocents go free."""
    jobs = [claimed(job(f"j{n}", losses=losses), worker) for n, (worker, losses) in enumerate(found)]
    outcomes = judged(jobs)
    assert [one for one, _ in outcomes] == jobs
    for worker in {one.worker for one in jobs}:
        beside = [(one, outcome.lost) for one, outcome in outcomes if one.worker == worker]
        assert any(charged for _, charged in beside)
        most = max(one.losses for one, _ in beside)
        for one, charged in beside:
            assert charged == (most < lifecycle.FREE_LOSSES or one.losses == most)


@given(st.lists(st.sets(st.integers(0, 9)), min_size=50, max_size=50), st.integers())
def test_fifty_deaths_of_workers_fail_no_innocent(deaths, seed):
    """Whoever ran, and however often."""
    random = Random(seed)
    jobs = {number: job(f"j{number}") for number in range(10)}
    for running in deaths:
        after = lost(
            [claimed(jobs[number], now=jobs[number].run_at) for number in sorted(running)], NOW, random.random()
        )
        jobs |= dict(zip(sorted(running), after, strict=True))
    assert all(one.state is State.QUEUED for one in jobs.values())


@given(st.integers(0, 30), st.integers())
def test_a_job_that_kills_its_workers_is_given_up_and_its_neighbours_are_not(neighbours, seed):
    """Which never come to an end, and run whenever they are due: the jitter of the waits tells them apart."""
    random = Random(seed)
    poison = job("poison")
    others = [job(f"j{number}") for number in range(neighbours)]
    now, deaths = NOW, 0
    while not poison.state.final:
        now = max(now, poison.run_at)
        due = [one for one in others if one.run_at <= now]
        waiting = [one for one in others if one.run_at > now]
        outcomes = judged([claimed(one, now=now) for one in (poison, *due)])
        poison, *due = [lifecycle.settle(one, outcome, now, random.random()).apply(one) for one, outcome in outcomes]
        others = due + waiting
        deaths += 1
    assert (deaths, poison.state) == (BUDGET, State.FAILED)
    assert all(one.state is State.QUEUED for one in others)


def test_who_is_suspected_spares_those_too_that_are_found_later():
    """A sweep finds some jobs of a dead worker at a time."""
    first = [claimed(job(losses=5))]
    most = lifecycle.suspect(first, {})
    later = [claimed(job(losses=2)), claimed(job(losses=5))]
    most = lifecycle.suspect(later, most)
    assert [outcome.lost for _, outcome in lifecycle.lose(first, most)] == [True]
    assert [outcome.lost for _, outcome in lifecycle.lose(later, most)] == [False, True]
