"""The hot statements look only at what they return: their plans on a store that is full of other jobs."""

import sqlite3

import pytest

from heavylift.core.job import State
from heavylift.stores import open_store
from heavylift.stores.sqlite import (
    batches,
    claiming,
    expiring,
    gates,
    keys,
    lanes,
    pruning,
    questions,
    reading,
    saving,
    transaction,
    workers,
)
from heavylift.testing import FakeClock
from heavylift.testing.stores import StoreCases

CASES = StoreCases()


@pytest.fixture
async def connection(tmp_path):
    """A look into a store with jobs due, scheduled, gated, running and finished, and with statistics of them."""
    clock = FakeClock()
    store = open_store(f"sqlite:///{tmp_path}/jobs.db", clock)
    await store.open()
    await CASES.finished(store, clock, *[f"done{number}" for number in range(300)])
    await CASES.started(store, clock, *[f"running{number}" for number in range(20)])
    await CASES.added(store, clock, *[f"due{number}" for number in range(200)])
    await CASES.added(store, clock, *[f"later{number}" for number in range(200)], delay=1000)
    await store.set_queue("gated", paused=True)
    await CASES.added(store, clock, *[f"gated{number}" for number in range(200)], queue="gated")
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.execute("ANALYZE")
    yield connection
    connection.close()
    await store.close()


def plan(connection, statement, *, rewrite=()):
    """The plan's steps, without the steps over the values that were passed."""
    for old, new in rewrite:
        assert old in statement
        statement = statement.replace(old, new)
    values = [None] * 40
    while True:
        try:
            found = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        except sqlite3.ProgrammingError as error:
            values = [None] * int(str(error).split("uses ")[1].split(",")[0])
            continue
        return [
            step[3]
            for step in found
            if not step[3].startswith(("SCAN json_each", "LIST SUBQUERY", "SCAN new", "SCALAR", "CORRELATED"))
        ]


STATEMENTS = {
    "what became due": (claiming.SCHEDULED, ["SEARCH job USING INDEX job_scheduled (run_at<?)"]),
    "becoming due": (claiming.BECOME_DUE, ["SEARCH job USING INTEGER PRIMARY KEY (rowid=?)"]),
    "who claims": (
        claiming.CLAIMER,
        [
            "SEARCH worker USING PRIMARY KEY (id=?)",
            "SEARCH job USING INDEX job_scheduled",
            "SEARCH gate USING COVERING INDEX gate_opens (opens_at>?)",
            "SEARCH queue USING COVERING INDEX queue_opens (opens_at>?)",
        ],
    ),
    "queues in turn": (
        claiming.CLAIMABLE.format(known=""),
        [
            "SEARCH lane USING INDEX lane_claimable (place=?)",
            "SEARCH queue USING COVERING INDEX sqlite_autoindex_queue_1 (name>? AND name<?)",
        ],
    ),
    "queues with known tasks in turn": (
        claiming.CLAIMABLE.format(known=claiming.WITH_KNOWN),
        [
            "SEARCH lane USING INDEX lane_claimable (place=?)",
            "SEARCH queue USING COVERING INDEX sqlite_autoindex_queue_1 (name>? AND name<?)",
            "SEARCH beside USING INDEX lane_in_turn (parent=?)",
            "SEARCH beside USING INDEX lane_in_turn (parent=?)",
        ],
    ),
    "named queues": (
        claiming.NAMED,
        [
            "SCAN given VIRTUAL TABLE INDEX 1:",
            "SEARCH queue USING COVERING INDEX sqlite_autoindex_queue_1 (name=?)",
            "SEARCH lane USING INDEX sqlite_autoindex_lane_1 (queue=? AND place=? AND key=?)",
            "USE TEMP B-TREE FOR ORDER BY",
        ],
    ),
    "the last turn": ("SELECT max(served) FROM lane WHERE parent IS NULL", ["SEARCH lane USING INDEX lane_served"]),
    "lanes of a queue in turn": (lanes.IN_TURN.format(known=""), ["SEARCH lane USING INDEX lane_in_turn (parent=?)"]),
    "lanes of known tasks": (
        lanes.IN_TURN.format(known=lanes.KNOWN),
        ["SEARCH lane USING INDEX lane_in_turn (parent=?)"],
    ),
    "a queue's own lanes": (
        lanes.OWN,
        ["SEARCH lane USING INDEX sqlite_autoindex_lane_1 (queue=? AND place=? AND key=?)"],
    ),
    "a lane by its key": (
        lanes.KEYED,
        ["SEARCH lane USING INDEX sqlite_autoindex_lane_1 (queue=? AND place=? AND key=?)"],
    ),
    "empty lanes": (lanes.EMPTY, ["SCAN lane USING INDEX lane_empty"]),
    "gates that open": (gates.OPENED, ["SEARCH gate USING INDEX gate_opens (opens_at<?)"]),
    "queues that open": (transaction._OPENED, ["SEARCH queue USING COVERING INDEX queue_opens (opens_at<?)"]),
    "a gate by its key": (gates.NAMED, ["SEARCH gate USING INDEX sqlite_autoindex_gate_1 (kind=? AND key=?)"]),
    "who waits at a gate": (gates.NEXT, ["SEARCH lane USING INDEX lane_parked (parked=? AND parent>?)"]),
    "in what order": (gates.PARKED, ["SEARCH lane USING INDEX lane_parked (parked=? AND parent=? AND <expr>=?)"]),
    "whether anybody does": (gates.IS_WAITED_AT, ["SEARCH lane USING COVERING INDEX lane_parked (parked=?)"]),
    "gates that nobody needs": (
        gates.FORGET,
        ["SEARCH gate USING INTEGER PRIMARY KEY (rowid=?)", "SEARCH gate USING INDEX gate_unused (due<?)"],
    ),
    "when something is due": (
        reading.NEXT_DUE,
        [
            "SCAN CONSTANT ROW",
            "SEARCH job USING INDEX job_scheduled",
            "SEARCH gate USING COVERING INDEX gate_opens (opens_at>?)",
            "SEARCH queue USING COVERING INDEX queue_opens (opens_at>?)",
        ],
    ),
    "who has a unique key": (
        keys.RECORDS,
        [
            "SEARCH unique_key USING INDEX unique_key_key (key=?)",
            "SEARCH job USING INDEX sqlite_autoindex_job_1 (id=?) LEFT-JOIN",
            "USE TEMP B-TREE FOR ORDER BY",
        ],
    ),
    "who of them runs": (
        keys.RUNNING,
        [
            "SEARCH unique_key USING COVERING INDEX unique_key_key (key=?)",
            "SEARCH job USING INDEX sqlite_autoindex_job_1 (id=?)",
        ],
    ),
    "keys whose time is over": (keys.PAST, ["SEARCH unique_key USING COVERING INDEX unique_key_until (until<?)"]),
    "the head of a lane": (claiming.HEADS, ["SEARCH job USING INDEX job_due (lane=?)"]),
    "an attempt begins": (claiming.TAKE, ["SEARCH job USING INTEGER PRIMARY KEY (rowid=?)"]),
    "what is to be changed": (saving.READ, ["SEARCH job USING INDEX sqlite_autoindex_job_1 (id=?)"]),
    "the dead": (
        "SELECT id, epoch FROM worker INDEXED BY worker_dead WHERE died_at IS NOT NULL",
        ["SCAN worker USING INDEX worker_dead"],
    ),
    "cancels of a worker": (
        workers.CANCELS,
        ["SEARCH job USING INDEX job_cancelling (worker=? AND epoch=?)"],
    ),
    "whom a question is for": (questions.HELD, ["SEARCH job USING INTEGER PRIMARY KEY (rowid=?)"]),
    "orphans": (
        workers.ORPHANS,
        ["SEARCH job USING INDEX job_running (worker=? AND epoch=?)", "USE TEMP B-TREE FOR ORDER BY"],
    ),
    "one job": (reading.JOB, ["SEARCH job USING INDEX sqlite_autoindex_job_1 (id=?)"]),
    "the expired": (expiring.EXPIRED, ["SEARCH job USING INDEX job_expiring (expires_at<?)"]),
    "queues with old jobs": (
        pruning.AGED,
        [
            "SCAN queue",
            "SEARCH job USING COVERING INDEX job_finished (queue=? AND state=? AND keeps=? AND finished_at<?)",
        ],
    ),
    "queues that are crowded": (
        pruning.CROWDED,
        ["SCAN queue", "SEARCH job USING INDEX job_keeping (queue=?)"],
    ),
}


@pytest.mark.parametrize(("statement", "steps"), STATEMENTS.values(), ids=STATEMENTS)
async def test_a_hot_statement_looks_only_at_what_it_returns(connection, statement, steps):
    assert plan(connection, statement) == steps


async def test_tasks_with_their_own_retention_are_found_by_one_look_each(connection):
    """And not by a look at each of their jobs."""
    steps = [step for step in plan(connection, pruning.PAIRS) if " job " in step]
    assert steps == [
        "SCAN job USING INDEX job_keeping",  # its first entry
        "SEARCH job USING INDEX job_keeping (queue=? AND task>?)",
        "SEARCH job USING INDEX job_keeping (queue>?)",
        "SEARCH job USING INTEGER PRIMARY KEY (rowid=?)",
    ]


@pytest.mark.parametrize(
    ("group", "index"),
    [
        (pruning.Group(1), "COVERING INDEX job_finished (queue=? AND state=? AND keeps=? AND finished_at>?)"),
        (pruning.Group(1, "task"), "INDEX job_keeping (queue=? AND task=? AND state=? AND finished_at>?)"),
    ],
    ids=["plain", "own"],
)
async def test_the_newest_of_a_group_are_read_in_their_order(connection, group, index):
    steps = plan(connection, pruning.newest(group, (5, 6)))
    assert [step for step in steps if " job " in step] == [f"SEARCH job USING {index}"] * 2
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps


async def test_holders_are_found_by_one_look_each(connection):
    (step,) = plan(connection, workers.NEXT_HOLDER)
    assert step == "SEARCH job USING INDEX job_running ((worker,epoch)>(?,?))"


async def test_a_plain_success_is_written_by_number(connection):
    statement = f"UPDATE job SET {saving.SETTLE} FROM ({batches.values_of(6, 3)}) AS new WHERE {saving.UNCHANGED}"
    steps = plan(connection, statement)
    assert "SEARCH job USING INTEGER PRIMARY KEY (rowid=?)" in steps
    assert not any(step.startswith("SCAN job") for step in steps)


FINISHED = ["SEARCH job USING COVERING INDEX job_finished (queue=? AND state=?)"]
SOURCES = {
    State.QUEUED: ["SCAN job USING INDEX job_due", "SCAN job USING INDEX job_scheduled"],
    State.RUNNING: ["SCAN job USING INDEX job_running"],
    State.SUCCEEDED: FINISHED,
    State.FAILED: FINISHED,
    State.CANCELLED: FINISHED,
}


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("state", SOURCES)
async def test_jobs_of_a_rare_state_are_found_by_its_index(connection, state, analyzed):
    if not analyzed:
        connection.execute("DROP TABLE sqlite_stat1")
        connection.execute("ANALYZE sqlite_schema")
    steps = [step for step in plan(connection, reading.SOURCES[state]) if " job " in step]
    assert steps == SOURCES[state]


async def test_queues_of_unknown_tasks_cost_a_claim_no_statements(tmp_path):
    clock = FakeClock()
    store = open_store(f"sqlite:///{tmp_path}/jobs.db", clock)
    await store.open()
    told = []
    for most in (2, 40):
        names = [f"q{number}" for number in range(most)]
        await store.add([CASES.job(clock, task="strange", queue=name) for name in names])
        await CASES.begun(store, 1, tasks=["known"])  # which brings them where they are passed over
        statements = []
        store._opened.writer._connection.set_trace_callback(statements.append)
        assert not await CASES.begun(store, 1, tasks=["known"])
        store._opened.writer._connection.set_trace_callback(None)
        told.append(len(statements))
    await store.close()
    assert told[0] == told[1]
