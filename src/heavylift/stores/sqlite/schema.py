"""The tables, as a list of migrations: a store's `user_version` says how many of them it has seen."""

from __future__ import annotations

import sqlite3

from heavylift.core.errors import ConfigError, SchemaTooNew

APPLICATION_ID = 0x484C4654
"""Marks a file as a store of Heavylift ("HLFT")."""

FIRST = """
-- One row for each job. Times are Unix seconds. `state` as in rows.py, where a queued job is either scheduled (it waits
-- for its run_at) or due (it stands in its lane, in the order of rank). `more` is a JSON object of what most jobs never
-- have; `history` has its state events, as in facts.py. An integer in args, result or checkpoint is the size of a value
-- that stands in `large`, so that it is not written anew at every change.
CREATE TABLE job(
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    task TEXT NOT NULL,
    queue INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    options TEXT NOT NULL,
    args BLOB NOT NULL,
    state INTEGER NOT NULL,
    rank REAL NOT NULL,
    created_at REAL NOT NULL,
    run_at REAL NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT,
    epoch INTEGER,
    started_at REAL,
    finished_at REAL,
    cancel TEXT,
    checkpoint BLOB,
    result BLOB,
    more TEXT,
    seq INTEGER NOT NULL,
    history TEXT NOT NULL
);
CREATE INDEX job_due ON job(lane, rank) WHERE state = 2;
CREATE INDEX job_scheduled ON job(run_at) WHERE state = 1;
CREATE INDEX job_running ON job(worker, epoch) WHERE state = 3;
CREATE INDEX job_cancelling ON job(worker, epoch) WHERE state = 3 AND cancel IS NOT NULL;
CREATE INDEX job_finished ON job(queue, state, finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE large(
    job INTEGER NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (job, name)
);

-- Events that are not in the history of their job: all that report no state, and states with much data.
CREATE TABLE event(
    job INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) WITHOUT ROWID;

-- A queue is the gate of its lanes, and counts its jobs by state. `kept`: somebody gave it settings.
CREATE TABLE queue(
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0,
    concurrency INTEGER,
    max_size INTEGER,
    kept INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0,
    queued INTEGER NOT NULL DEFAULT 0,
    running INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0
);

-- Where due jobs stand. `ready`: it may hold some; `open`: its gate is; `served`: its last turn.
CREATE TABLE lane(
    number INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL UNIQUE,
    ready INTEGER NOT NULL DEFAULT 0,
    open INTEGER NOT NULL DEFAULT 1,
    served INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX lane_claimable ON lane(served) WHERE ready = 1 AND open = 1;
CREATE INDEX lane_served ON lane(served);

-- `beat_at` and `lease` are seconds of the monotonic clock of `boot_id`. A dead row is kept for a while, so that its
-- epoch stays refused. `idle`: its last claim found fewer jobs than it could run.
CREATE TABLE worker(
    id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    pid_namespace TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_started INTEGER NOT NULL,
    beat_at REAL NOT NULL,
    beat_wall REAL NOT NULL,
    lease REAL NOT NULL,
    queues TEXT NOT NULL,
    idle INTEGER NOT NULL DEFAULT 0,
    died_at REAL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX worker_dead ON worker(id, epoch) WHERE died_at IS NOT NULL;

CREATE TABLE unique_key(job INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE pruned(id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX pruned_at ON pruned(at);
"""

PLACES = """
-- A lane for each place in which jobs run (as in rows.py), so that what waits for a process hides nothing that a loop
-- or a thread has room for. `worker.idle` has a bit for each place.
CREATE TABLE lane_new(
    number INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    place INTEGER NOT NULL,
    ready INTEGER NOT NULL DEFAULT 0,
    open INTEGER NOT NULL DEFAULT 1,
    served INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, place)
);
INSERT INTO lane_new SELECT number, queue, 0, ready, open, served FROM lane;
DROP TABLE lane;
ALTER TABLE lane_new RENAME TO lane;
CREATE INDEX lane_claimable ON lane(place, served) WHERE ready = 1 AND open = 1;
CREATE INDEX lane_served ON lane(served);
"""

QUESTIONS = """
-- Questions about running jobs, such as where their code is, and the answers of their workers; for some seconds each.
CREATE TABLE question(
    id TEXT PRIMARY KEY,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    answer BLOB
);
"""

TALLY = """
-- What all workers have counted. `key` is a JSON array: what is counted, and its labels.
CREATE TABLE tally(key TEXT PRIMARY KEY, amount REAL NOT NULL) WITHOUT ROWID;
"""

GATES = """
-- Lanes within a queue: `key` says what its jobs have beside queue and place (as in lanes.py; '' for plain jobs, whose
-- lane is the queue's own and has no parent). Lanes with a parent take turns with it by `turn`, counted by its `turns`,
-- while `crowded` says that one of them may be claimable. `task`: the jobs in it are of a task that some worker did not
-- know. `gates`: numbers of the gates that its jobs have to pass, as a JSON array. `parked`: the gate that closed it;
-- it is not claimable until that opens.
ALTER TABLE lane RENAME TO lane_old;
CREATE TABLE lane(
    number INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    place INTEGER NOT NULL,
    key TEXT NOT NULL DEFAULT '',
    parent INTEGER,
    ready INTEGER NOT NULL DEFAULT 0,
    crowded INTEGER NOT NULL DEFAULT 0,
    open INTEGER NOT NULL DEFAULT 1,
    served INTEGER NOT NULL DEFAULT 0,
    turn INTEGER NOT NULL DEFAULT 0,
    turns INTEGER NOT NULL DEFAULT 0,
    task TEXT,
    gates TEXT,
    parked INTEGER,
    UNIQUE (queue, place, key)
);
INSERT INTO lane(number, queue, place, ready, open, served)
    SELECT number, queue, place, ready, open, served FROM lane_old;
DROP TABLE lane_old;
CREATE INDEX lane_claimable ON lane(place, served) WHERE parent IS NULL AND open = 1 AND ready + crowded > 0;
CREATE INDEX lane_served ON lane(served) WHERE parent IS NULL;
CREATE INDEX lane_in_turn ON lane(parent, turn) WHERE parent IS NOT NULL AND ready = 1 AND parked IS NULL;
CREATE INDEX lane_parked ON lane(parked, parent, coalesce(task, ''), turn) WHERE parked IS NOT NULL;
CREATE INDEX lane_empty ON lane(turn) WHERE parent IS NOT NULL AND ready = 0;

-- What lanes have to pass. `kind` as in core/limits.py; `held`: how many jobs run behind it; `due`: of a rate, when the
-- next start would be due if all came evenly; `opens_at`: when it lets the next one pass, while some lane is parked at
-- it; `lanes`: of how many it is a gate. `due` and `opens_at`, here and of a queue, are seconds of the monotonic clock
-- of one boot, whose id stands in the only row of `boot`.
CREATE TABLE gate(
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    limit_ TEXT NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    opens_at REAL,
    lanes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (kind, key)
);
CREATE INDEX gate_unused ON gate(due) WHERE lanes = 0 AND held = 0;
CREATE INDEX gate_opens ON gate(opens_at) WHERE opens_at IS NOT NULL;

CREATE TABLE boot(id TEXT NOT NULL);

ALTER TABLE queue ADD COLUMN paused_at REAL;
ALTER TABLE queue ADD COLUMN paused_by TEXT;
ALTER TABLE queue ADD COLUMN paused_why TEXT;
ALTER TABLE queue ADD COLUMN rate TEXT;
ALTER TABLE queue ADD COLUMN due REAL NOT NULL DEFAULT 0;
ALTER TABLE queue ADD COLUMN opens_at REAL;
ALTER TABLE queue ADD COLUMN keep TEXT;
CREATE INDEX queue_opens ON queue(opens_at) WHERE opens_at IS NOT NULL;
UPDATE queue SET paused_at = unixepoch() WHERE paused = 1;

-- `expires_at`: of a waiting job that has to begin by then, and never did. `keeps`: its options say how long it is
-- kept, and its queue counts it not.
ALTER TABLE job ADD COLUMN expires_at REAL;
ALTER TABLE job ADD COLUMN keeps INTEGER NOT NULL DEFAULT 0;
CREATE INDEX job_expiring ON job(expires_at) WHERE expires_at IS NOT NULL;
DROP INDEX job_finished;
CREATE INDEX job_finished ON job(queue, state, keeps, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX job_keeping ON job(queue, task, state, finished_at) WHERE keeps = 1 AND finished_at IS NOT NULL;

-- A unique key and the id of a job that was given it, which may be pruned; `number` in the order of that. `since`: when
-- the first of a row of jobs was created that took each other's places. `until`: the time until which the key is taken
-- whatever becomes of the job. `attempt`: that of the job when it was given the key; it has begun when it has another.
ALTER TABLE unique_key RENAME TO unique_key_old;
CREATE TABLE unique_key(
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    id TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL,
    attempt INTEGER NOT NULL DEFAULT 0
);
INSERT INTO unique_key(key, id, since) SELECT key, id, created_at FROM unique_key_old
    JOIN job ON job.number = unique_key_old.job ORDER BY job.number;
DROP TABLE unique_key_old;
CREATE UNIQUE INDEX unique_key_key ON unique_key(key, id);
CREATE INDEX unique_key_until ON unique_key(until) WHERE until IS NOT NULL;

-- Names of the tasks that a worker's application has, as a JSON array; NULL: it is given any.
ALTER TABLE worker ADD COLUMN tasks TEXT;
"""

MIGRATIONS = (FIRST, PLACES, QUESTIONS, TALLY, GATES)


def version(connection: sqlite3.Connection) -> int:
    """How many migrations this file has seen; raises SchemaTooNew, and ConfigError for another program's file."""
    seen: int = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if owner != APPLICATION_ID and (seen or connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]):
        message = "The file is a database of another program: name another file in the store's URL."
        raise ConfigError(message)
    if seen > len(MIGRATIONS):
        message = (
            f"The store has schema {seen}, this Heavylift knows {len(MIGRATIONS)}: it was made by a newer version."
            " Upgrade heavylift here, or name another store."
        )
        raise SchemaTooNew(message)
    return seen


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file up to date, in one transaction; the caller has the turn."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number, script in enumerate(MIGRATIONS[version(connection) :], version(connection) + 1):
            for statement in statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def statements(script: str) -> list[str]:
    """The single statements of a script (executescript would commit the transaction first)."""
    found, text = [], ""
    for line in script.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            found.append(text)
            text = ""
    return found
