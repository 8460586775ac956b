"""The campaigns, small: what they count must be right at any size. How long things take is for the long runs."""

import pytest
from tests.campaigns import drains, kills, limits, runaways, soak


@pytest.fixture
def passed(capsys):
    """Shows what a campaign counted, and fails the test for what went wrong."""

    def check(report):
        with capsys.disabled():
            print(f"\n{report}")
        assert not report.wrong, "\n".join(report.wrong)
        return {figure.what: figure.value for figure in report.figures}

    return check


@pytest.mark.timeout(600)
async def test_jobs_survive_the_death_of_every_process_at_any_moment(tmp_path, passed):
    found = passed(await kills.kill_anything(tmp_path, 90))
    assert found["kills: while jobs ran"] > 0


@pytest.mark.timeout(600)
async def test_jobs_survive_the_death_of_their_worker_again_and_again(tmp_path, passed):
    assert passed(await kills.kill_workers(tmp_path, 60, 4))["kills: worker"] > 0


@pytest.mark.timeout(600)
async def test_jobs_survive_the_death_of_their_host_again_and_again(tmp_path, passed):
    assert passed(await kills.kill_hosts(tmp_path, 60, 12))["kills: host"] > 0


@pytest.mark.timeout(300)
async def test_a_server_that_is_stopped_hands_back_what_does_not_end_and_charges_nobody(tmp_path, passed):
    passed(await drains.drain(tmp_path, 1, grace=1.0))


@pytest.mark.timeout(300)
async def test_runaways_in_every_kind_of_host_are_stopped(tmp_path, passed):
    kinds = ("a loop", "C that holds the interpreter", "a loop that catches everything")
    passed(await runaways.stop_runaways(tmp_path, 0.3, 0.3, kinds))


@pytest.mark.timeout(300)
async def test_nothing_is_lost_and_nothing_left_over_under_a_mixed_load_with_kills(tmp_path, passed):
    passed(await soak.soak(tmp_path, 15, every=2.0))


@pytest.mark.timeout(300)
async def test_limits_by_key_hold_while_workers_are_killed_and_no_slot_is_lost(tmp_path, passed):
    found = passed(await limits.limits(tmp_path, 120, 3, 3.0))
    assert found["kills of workers"] == 3
