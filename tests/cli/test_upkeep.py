"""migrate and prune: a store's schema, and what is removed from it."""

import json
import sqlite3
import time

import pytest

from heavylift.client import Client
from heavylift.core.options import Options
from heavylift.core.retention import Retention
from heavylift.stores import open_store
from heavylift.testing import FakeClock

DAY = 86400.0
KEEPING = "from heavylift import Heavylift\nlift = Heavylift(keep='{keep}', keep_failed={failed})\n"


@pytest.fixture
def store(shell):
    return f"sqlite:///{shell.folder}/heavylift.db"


async def finished(store, age, number=1):
    """Jobs that ended some time ago."""
    clock = FakeClock(wall=time.time() - age)
    client = Client(open_store(store, clock), clock)
    jobs = await client.submit([("add", b"{}", Options())] * number)
    for job in jobs:
        await client.cancel(job.id)
    await client.close()


def left(shell):
    return len(shell("jobs", "--limit", "1000").stdout.splitlines())


async def test_all_jobs_that_ended_long_ago_are_removed_and_no_others(shell, store):
    await finished(store, 10 * DAY, 201)
    await finished(store, 2 * DAY)
    shell("submit", "-A", "jobs_app:lift", "add", "a=1")
    ended = shell("prune", "--older-than", "5d")
    assert (ended.returncode, ended.stdout) == (0, f"201 finished jobs removed  {store}\n")
    assert left(shell) == 2
    assert json.loads(shell("prune", "--older-than", "1d", "--json").stdout) == {"store": store, "removed": 1}
    assert left(shell) == 1
    assert "no duration" in shell("prune", "--older-than", "soon").stderr


async def test_the_application_says_how_long_its_jobs_are_kept(shell, store):
    for name, keep, failed in [("long", "30d", 0), ("short", "5d", 0), ("few", "30d", 1)]:
        (shell.folder / f"{name}.py").write_text(KEEPING.format(keep=keep, failed=failed))
    await finished(store, 10 * DAY, 2)
    await finished(store, 2 * DAY, 2)
    unsaid = shell("prune", "--store", store)
    assert unsaid.returncode == 2
    assert "--older-than" in unsaid.stderr
    for name, remaining in [("long", 4), ("short", 2), ("few", 1)]:
        assert shell("prune", "-A", f"{name}:lift").returncode == 0
        assert left(shell) == remaining, name


async def test_a_task_and_a_queue_that_say_how_long_their_jobs_are_kept_are_heard(shell, store):
    clock = FakeClock(wall=time.time() - 10 * DAY)
    client = Client(open_store(store, clock), clock)
    own = Options(keep=Retention(age=30 * DAY))
    jobs = await client.submit([("add", b"{}", own), ("add", b"{}", Options(queue="q")), ("add", b"{}", Options())])
    for job in jobs:
        await client.cancel(job.id)
    await client.store.set_queue("q", keep=Retention(age=30 * DAY))
    await client.close()
    assert json.loads(shell("prune", "--older-than", "5d", "--json").stdout)["removed"] == 1
    assert left(shell) == 2
    pruned = shell("job", jobs[2].id)
    assert pruned.returncode == shell("job", "nobody").returncode
    assert "was removed when its retention was over" in pruned.stderr


def test_pruning_creates_no_store(shell):
    ended = shell("prune", "-A", "jobs_app:lift")
    assert ended.returncode == 4
    assert not (shell.folder / "heavylift.db").exists()


def test_a_migration_says_what_the_schema_was_and_is(shell, store):
    (shell.folder / "heavylift.db").touch()
    fresh = shell("migrate")
    assert fresh.returncode == 0
    assert fresh.stdout.startswith("schema 0 -> ")
    again = json.loads(shell("migrate", "--json").stdout)
    assert again["before"] == again["after"] > 0
    assert again["store"] == store
    assert f"schema {again['after']}, up to date" in shell("migrate").stdout


def test_a_store_of_a_newer_version_is_not_migrated(shell):
    shell("submit", "-A", "jobs_app:lift", "add", "a=1")
    with sqlite3.connect(shell.folder / "heavylift.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    ended = shell("migrate")
    assert ended.returncode == 4
    assert "Upgrade heavylift" in ended.stderr
