"""The record of a job: its states, its id, and what a change does to it."""

import uuid
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.core.job import FINAL, Change, Job, NewEvent, Progress, State, new_id
from heavylift.core.options import Options

moments = st.floats(0, 4e9)
chance = st.binary(min_size=9, max_size=16)


@given(moments, chance)
def test_an_id_is_a_uuid_of_version_7(now, random):
    """RFC 9562: version 7, variant 10, the milliseconds in front."""
    found = uuid.UUID(new_id(now, random))
    assert str(found) == new_id(now, random)
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == int(now * 1000)


@given(moments, chance)
def test_ten_bits_of_an_id_name_shard_zero(now, random):
    """The upper ten of the twelve bits after the version: reserved until there are shards."""
    assert (uuid.UUID(new_id(now, random)).int >> 66) & 0x3FF == 0


def test_the_other_bits_of_an_id_are_random():
    """All 64 of them: two ids of the same millisecond are never the same by chance."""
    zeros, ones = (uuid.UUID(new_id(1.0, bytes([byte]) * 9)).int for byte in (0, 255))
    assert (zeros ^ ones).bit_count() == 64
    assert len({new_id(1.0, number.to_bytes(9, "big")) for number in range(4096)}) == 4096


@given(moments, moments, chance, chance)
def test_ids_sort_by_their_time(early, late, random, other):
    """As text too: newest first is the order of ids backwards."""
    if int(early * 1000) < int(late * 1000):
        assert new_id(early, random) < new_id(late, other)


def test_three_states_are_final():
    """And the others are not."""
    assert {state for state in State if state.final} == FINAL == {State.SUCCEEDED, State.FAILED, State.CANCELLED}
    assert [str(state) for state in State] == ["blocked", "queued", "running", "succeeded", "failed", "cancelled"]


def test_a_change_touches_its_fields_alone_and_counts_its_events():
    """A progress report must not undo a cancel that came in between."""
    job = Job("j1", "build", b"{}", Options(queue="reports"), State.RUNNING, 1.0, 1.0, attempt=1, seq=4)
    change = Change("j1", State.RUNNING, 1, {"progress": Progress(done=1)}, (NewEvent("progress", {}),) * 2)
    after = change.apply(job)
    assert (after.progress, after.seq) == (Progress(done=1), 6)
    assert job.seq == 4
    assert job.queue == "reports"


def test_records_are_frozen():
    """Only a store changes a job."""
    job = Job("j1", "build", b"{}", Options(), State.QUEUED, 1.0, 1.0)
    with pytest.raises(FrozenInstanceError):
        job.state = State.RUNNING
