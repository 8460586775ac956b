"""The file, and what may be wrong with it: each failure says what to do, and nothing of the driver gets out."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from heavylift.core.errors import ConfigError, SchemaTooNew, StoreUnavailable
from heavylift.core.options import Slots
from heavylift.core.outcome import Interrupted
from heavylift.stores import open_store
from heavylift.stores.sqlite import facts, schema
from heavylift.stores.sqlite.url import parse
from heavylift.testing import FakeClock
from heavylift.testing.stores import StoreCases

CASES = StoreCases()


async def opened(path, options=""):
    store = open_store(f"sqlite:///{path}{options}", FakeClock())
    await store.open()
    return store


# --- URLs -------------------------------------------------------------------------------------------------------------


def test_a_relative_url_is_made_absolute_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///some%20jobs.db")
    monkeypatch.chdir("/")
    assert store.url == f"sqlite:///{tmp_path}/some%20jobs.db", "three slashes, and the fourth of the path"
    assert parse(store.url).path == f"{tmp_path}/some jobs.db"
    assert open_store(store.url).url == store.url


def test_an_option_stays_in_the_url(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/x.db?synchronous=FULL")
    assert store.url.endswith("/x.db?synchronous=full")
    assert parse(store.url).synchronous == "full"


WRONG = {
    "sqlite3:///x.db": "Did you mean 'sqlite://'",
    "sqlit:///x.db": "Did you mean 'sqlite://'",
    "mem://": "Did you mean 'memory://'",
    "jobs.db": "sqlite:///jobs.db",
    "": "sqlite:///jobs.db",
    "sqlite://": "names no file",
    "sqlite:///": "names no file",
    "sqlite://jobs.db": "names no file",
    "sqlite:///x.db?synchronus=full": "Did you mean 'synchronous'",
    "sqlite:///x.db?synchronous=ful": "Did you mean 'full'",
    "sqlite:///x.db?synchronous": "normal or full",
    "memory://x": "memory:// alone",
}


@pytest.mark.parametrize(("url", "hint"), WRONG.items(), ids=[repr(url) for url in WRONG])
def test_a_url_of_no_store_names_the_fix(url, hint):
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert hint in str(caught.value)


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_only_its_owner_can_read_a_store(tmp_path):
    store = await opened(tmp_path / "jobs.db")
    await CASES.added(store, FakeClock(), "a")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600, "jobs.db-run": 0o700}
    await store.close()


async def test_a_store_that_is_opened_twice_in_a_process_keeps_its_locks(tmp_path):
    clock = FakeClock()
    store = await opened(tmp_path / "jobs.db")
    connection = store._opened.writer._connection
    connection.execute("BEGIN IMMEDIATE")
    again = await opened(tmp_path / "jobs.db")
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "jobs.db"], capture_output=True, text=True, check=False
    )
    assert "database is locked" in done.stderr
    connection.execute("COMMIT")
    await CASES.added(again, clock, "a")
    await again.close()
    await store.close()


async def test_synchronous_is_as_the_url_says(tmp_path):
    for options, level in (("", 1), ("?synchronous=full", 2)):
        store = await opened(tmp_path / "jobs.db", options)
        connection = store._opened.writer._connection
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        await store.close()


async def test_a_path_of_any_length_can_be_watched(tmp_path):
    folder = tmp_path / ("deep" * 30) / ("deeper" * 20)
    folder.mkdir(parents=True)
    store = await opened(folder / "jobs.db")
    async with store.watch() as hints:
        while await hints.wait(0):
            pass
        await CASES.added(store, FakeClock(), "a")
        assert await hints.wait(10)
    await store.close()


async def test_what_no_longer_waits_is_removed_from_the_folder(tmp_path):
    store = await opened(tmp_path / "jobs.db")
    folder = tmp_path / "jobs.db-run"
    async with store.watch():
        assert len(list(folder.glob("follower.*"))) == 1
    assert not list(folder.glob("follower.*"))
    code = "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(folder / "follower.1.dead")], check=True)
    assert len(list(folder.glob("follower.*"))) == 1
    await CASES.added(store, FakeClock(), "a")
    await CASES.added(store, FakeClock(), "b")  # hints are sent after the answer, and before the next write
    assert not list(folder.glob("follower.*"))
    await store.close()


@pytest.mark.parametrize(
    "content",
    [b"this is no database " * 500, b"{}", b"SQLite format 3\0" + b"\1" * 5000],
    ids=["text", "short", "torn"],
)
async def test_a_file_that_is_no_database_is_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises((ConfigError, StoreUnavailable)) as caught:
        await opened(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


async def test_a_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customer(name)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another program"):
        await opened(path)
    assert path.read_bytes() == before


async def test_a_store_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "jobs.db"
    await (await opened(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(SchemaTooNew, match="Upgrade heavylift"):
        await opened(path)


async def test_an_older_store_is_migrated_once_and_keeps_its_jobs(tmp_path, monkeypatch):
    path = tmp_path / "jobs.db"
    store = await opened(path)
    (job,) = await CASES.added(store, FakeClock(), "a")
    await store.close()
    newer = "ALTER TABLE queue ADD COLUMN colour TEXT;\nCREATE TABLE more(x);\n"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, newer))
    stores = await asyncio.gather(*[opened(path) for _ in range(4)])
    assert await stores[3].get(["a"]) == [job]
    for store in stores:
        await store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    assert connection.execute("SELECT colour FROM queue").fetchone() == (None,)
    connection.close()


async def test_a_store_of_the_first_schema_keeps_its_order_and_gets_lanes_for_all_places(tmp_path):
    path = tmp_path / "jobs.db"
    connection = sqlite3.connect(path)
    for statement in schema.statements(schema.FIRST):
        connection.execute(statement)
    connection.executescript(
        f"PRAGMA user_version = 1; PRAGMA application_id = {schema.APPLICATION_ID};"
        "INSERT INTO queue(number, name, queued) VALUES (7, 'default', 2);"
        "INSERT INTO lane(number, queue, ready, served) VALUES (7, 7, 1, 3);"
    )
    for number, name, rank in ((1, "b", 20.0), (2, "a", 10.0)):
        connection.execute(
            "INSERT INTO job(number, id, task, queue, lane, options, args, state, rank, created_at, run_at, attempt,"
            " seq, history) VALUES (?, ?, 'task', 7, 7, '{}', '{}', 2, ?, 5, 5, 0, 1, '')",
            (number, name, rank),
        )
    connection.commit()
    connection.close()
    store, clock = await opened(path), FakeClock()
    await CASES.added(store, clock, "c", run_in="thread")
    await store.beat(CASES.worker(), 15.0)
    assert {job.id for job in await store.claim("worker", 1, Slots(thread=5))} == {"c"}
    assert [job.id for job in await store.claim("worker", 1, Slots(5))] == ["a", "b"]
    await store.close()


async def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "jobs.db"
    await (await opened(path)).close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE half(x);\nALTER TABLE none ADD y;\n"))
    with pytest.raises(StoreUnavailable):
        await opened(path)
    monkeypatch.undo()
    await (await opened(path)).close()


async def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreUnavailable, match="create its folder"):
        await opened(tmp_path / "nowhere" / "jobs.db")
    with pytest.raises(StoreUnavailable):
        await opened(tmp_path)


NOBODY = 65534
OPEN = """
import asyncio, sys
from heavylift.core.errors import StoreUnavailable
from heavylift.core.outcome import Interrupted
from heavylift.stores import open_store
try:
    asyncio.run(open_store("sqlite:///" + sys.argv[1]).open())
except StoreUnavailable as error:
    print(error)
"""


@pytest.fixture
def as_nobody(tmp_path):
    """How to start a program that root's privileges do not help, and whom the files are to belong to."""
    if os.getuid() != 0:
        return []
    start = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
    program = [*start, sys.executable, "-B", "-c", "import heavylift.stores"]
    if shutil.which("setpriv") is None or subprocess.run(program, check=False).returncode:
        pytest.skip("nobody else can run this interpreter")
    for folder in [tmp_path, *tmp_path.parents][:-2]:  # below /tmp
        folder.chmod(folder.stat().st_mode | 0o055)
    return start


@pytest.mark.parametrize("closed", ["file", "folder", "both"])
async def test_a_store_that_cannot_be_written_says_so(tmp_path, closed, as_nobody):
    folder = tmp_path / "data"
    folder.mkdir()
    await (await opened(folder / "jobs.db")).close()
    shutil.rmtree(folder / "jobs.db-run")
    for item in (folder, folder / "jobs.db"):
        if as_nobody:
            os.chown(item, NOBODY, NOBODY)
    if closed in ("file", "both"):
        (folder / "jobs.db").chmod(0o400)
    if closed in ("folder", "both"):
        folder.chmod(0o500)
    command = [*as_nobody, sys.executable, "-B", "-c", OPEN, str(folder / "jobs.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "let this user" in done.stdout, done.stdout + done.stderr


async def test_a_full_disk_refuses_and_loses_nothing_and_goes_on_when_there_is_room(tmp_path):
    clock = FakeClock()
    store = await opened(tmp_path / "jobs.db")
    await CASES.added(store, clock, "before")
    connection = store._opened.writer._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}").close()
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.add([CASES.job(clock, f"many-{number}", args=b"x" * 1000) for number in range(2000)])
    before = (await store.queues())[0].counts
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.add([CASES.job(clock, "large", args=b"x" * 1_000_000)])
    assert await store.get(["large"]) == [None]
    assert (await store.queues())[0].counts == before
    connection.execute("PRAGMA max_page_count = 1000000").close()
    await CASES.added(store, clock, "after", args=b"x" * 1_000_000)
    await store.close()


async def test_a_job_that_cannot_be_written_does_not_harm_those_beside_it(tmp_path):
    clock = FakeClock()
    store = await opened(tmp_path / "jobs.db")
    bad, event = CASES.job(clock, "bad")
    object.__setattr__(bad, "task", object())
    answers = await asyncio.gather(
        store.add([CASES.job(clock, "a")]), store.add([(bad, event)]), store.add([CASES.job(clock, "b")]),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(answers[1], StoreUnavailable)
    assert [job and job.id for job in await store.get(["a", "bad", "b"])] == ["a", None, "b"]
    assert sum((await store.queues())[0].counts.values()) == 2
    await store.close()


@pytest.mark.parametrize("inline", [False, True])
async def test_another_program_that_locks_the_file_is_waited_for_and_then_named(tmp_path, monkeypatch, inline):
    monkeypatch.setattr("heavylift.stores.sqlite.writer.PATIENCE", 0.3)
    clock = FakeClock()
    store = open_store(f"sqlite:///{tmp_path}/jobs.db", clock, inline=inline)
    await store.open()
    await CASES.added(store, clock, "a")
    shell = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"locked|turn"):
        await store.add([CASES.job(clock, "refused")])
    assert await store.get(["a", "refused"]) != [None, None], "reads go on"
    waiting = asyncio.create_task(store.add([CASES.job(clock, "b")]))
    await asyncio.sleep(0)
    shell.execute("COMMIT")
    await waiting
    shell.close()
    assert [job and job.id for job in await store.get(["a", "refused", "b"])] == ["a", None, "b"]
    await store.close()


@pytest.mark.parametrize("inline", [False, True])
async def test_a_process_that_holds_the_turn_and_does_not_move_is_named(tmp_path, monkeypatch, inline):
    import fcntl

    monkeypatch.setattr("heavylift.stores.sqlite.writer.PATIENCE", 0.2)
    clock = FakeClock()
    store = open_store(f"sqlite:///{tmp_path}/jobs.db", clock, inline=inline)
    await store.open()
    with Path(tmp_path / "jobs.db-run" / "data").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="another process holds it"):
            await store.add([CASES.job(clock, "refused")])
    await CASES.added(store, clock, "a")
    assert await store.get(["refused", "a"]) != [None, None]
    assert (await store.get(["refused", "a"]))[0] is None
    await store.close()


async def test_a_wrong_statement_of_our_own_is_no_error_of_the_driver_either(tmp_path):
    store = await opened(tmp_path / "jobs.db")
    with pytest.raises(StoreUnavailable) as caught:
        await store._opened.writer.call(lambda transaction: transaction.connection.execute("SELECT nonsense"))
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    with pytest.raises(StoreUnavailable):
        await store._opened.read(lambda connection: connection.execute("SELECT nonsense"))
    await store.close()


async def test_a_history_that_grew_long_moves_out_of_its_jobs_row(tmp_path):
    clock = FakeClock()
    store = await opened(tmp_path / "jobs.db")
    (job,) = await CASES.started(store, clock, "a")
    for _ in range(200):
        await CASES.settle(store, clock, job, Interrupted("drained"))
        (job,) = await store.claim("worker", 1, Slots(1))
    connection = sqlite3.connect(tmp_path / "jobs.db")
    assert connection.execute("SELECT length(history) FROM job").fetchone()[0] <= facts.HISTORY + facts.LARGEST
    connection.close()
    assert [item.seq for item in await store.events({"a": 0})] == list(range(1, job.seq + 1))
    await store.close()


# --- which thread writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "inline", "jobs", "expected"),
    [
        ("", False, 1, "loop"),
        ("", False, 50, "thread"),
        ("", True, 50, "loop"),
        ("?synchronous=full", False, 1, "thread"),
        ("?synchronous=full", True, 1, "thread"),
    ],
)
async def test_what_is_small_is_written_at_once_where_nothing_waits_for_the_disk(
    tmp_path, options, inline, jobs, expected
):
    store = open_store(f"sqlite:///{tmp_path}/jobs.db{options}", FakeClock(), inline=inline)
    await store.open()
    writer = store._opened.writer
    committed, seen = writer._committed, []

    def look(transaction):
        # Loop and thread tell of their commits by turns, because they share what they tell with.
        seen.append((threading.current_thread() is threading.main_thread(), writer._busy.locked()))
        committed(transaction)

    writer._committed = look
    await CASES.added(store, FakeClock(), *(f"job-{number}" for number in range(jobs)))
    await store.close()
    assert seen == [(expected == "loop", True)]


async def test_a_closed_writer_refuses_what_is_small_and_what_is_large(tmp_path):
    store = await opened(tmp_path / "jobs.db")
    writer = store._opened.writer
    await store.close()
    for rows in (1, 100):
        with pytest.raises(StoreUnavailable, match="is closed"):
            await writer.call(lambda transaction: None, rows)
