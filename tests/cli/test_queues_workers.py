"""queues and workers: who stands where, and who works on it."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.http.serving import HEAVYLIFT

from heavylift import Heavylift
from heavylift.store import WorkerRecord

BOOT = Path("/proc/sys/kernel/random/boot_id")


def rows(ended):
    assert ended.returncode == 0, ended.stderr
    return [line.split("\t") for line in ended.stdout.splitlines()]


def row(shell, command, name):
    return next((cells for cells in rows(shell(*command)) if cells[0] == name), None)


def objects(ended):
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_a_queue_is_a_line_with_what_stands_in_it(working):
    for _ in range(2):
        working("submit", "add", "a=1", "--queue", "counted", "--delay", "1h")
    assert row(working, ["queues"], "counted") == ["counted", "open", "0", "2", "", "", "", ""]
    [queue] = [found for found in objects(working("queues", "--json")) if found["name"] == "counted"]
    assert (queue["paused"], queue["counts"]["queued"], queue["oldest_wait"]) == (False, 2, None)


def test_limits_and_the_oldest_wait_are_shown(shell):
    shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--queue", "limited")
    limits = ("--concurrency", "3", "--max-size", "70", "--rate", "100/min")
    ended = shell("queues", "set", "limited", *limits)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        "limited  3 at once, 100/min started, 70 waiting\n",
        "",
    )
    cells = row(shell, ["queues"], "limited")
    assert cells[:6] == ["limited", "open", "0/3", "1/70", "100/min", ""]
    assert cells[6].endswith("s")
    assert shell("queues", "set", "limited", "--rate", "none", "--max-size", "1").returncode == 0
    assert row(shell, ["queues"], "limited")[:5] == ["limited", "full", "0/3", "1/1", ""]
    kept = shell("queues", "set", "limited", "--keep", "2d", "--keep-failed", "5", "--json")
    assert json.loads(kept.stdout)["keep"] == {"age": 172800.0, "succeeded": None, "failed": 5}
    more = shell("queues", "set", "limited", "--keep-succeeded", "9", "--keep-failed", "none", "--json")
    assert json.loads(more.stdout)["keep"] == {"age": 172800.0, "succeeded": 9, "failed": None}
    none = shell("queues", "set", "limited", "--keep", "none", "--concurrency", "none", "--max-size", "none")
    assert none.stdout == "limited  no limits\n"


MISTAKES = {
    "nothing": ([], "There is nothing to set"),
    "zero": (["--concurrency", "0"], "give an integer from 1"),
    "text": (["--max-size", "many"], "max_size: 'many' is out of range"),
    "rate": (["--rate", "0/s"], "'0/s' is no rate"),
    "count": (["--keep-failed", "-1"], "--keep-failed: '-1' is no number of jobs"),
    "small": (["--max-size", "1"], "max_size: 1 is below the 2 jobs that wait in queue 'crowded'; give at least 2"),
}


def test_a_limit_that_is_none_is_refused_with_the_reason(shell):
    for _ in range(2):
        shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--queue", "crowded")
    for given, said in MISTAKES.values():
        ended = shell("queues", "set", "crowded", *given)
        assert (ended.returncode, ended.stdout) == (2, ""), given
        assert said in ended.stderr
    assert row(shell, ["queues"], "crowded")[:5] == ["crowded", "open", "0", "2", ""]


def test_a_pause_says_by_whom_and_why(shell):
    shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--queue", "mail")
    ended = shell("queues", "pause", "mail", "--reason", "the mail server is down", "--by", "anna")
    assert (ended.returncode, ended.stdout) == (0, "paused  mail\n")
    cells = row(shell, ["queues"], "mail")
    assert cells[1] == "paused"
    assert cells[7].endswith(" ago by anna: the mail server is down")
    again = shell("queues", "pause", "mail", "--json")
    assert "It was paused before" in again.stderr
    assert "by anna: the mail server is down" in again.stderr
    pause = json.loads(again.stdout)["pause"]
    assert "@" in pause["by"], "who types it, and where"
    assert pause["reason"] is None
    assert shell("queues", "resume", "mail").stderr == ""
    assert shell("queues", "resume", "mail").stderr == "It was not paused.\n"


def test_a_waiting_job_is_moved(shell):
    job = shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--delay", "1h").stdout.strip()
    ended = shell("move", job, "--priority", "9", "--in", "2h")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"moved  {job}  priority 9, due at ")
    assert shell("move", "@last", "--in", "0").stdout == f"moved  {job}  priority 9, due now\n"
    at = "2031-01-31T09:00:00Z"
    found = json.loads(shell("move", job, "--at", at, "--json").stdout)
    assert (found["priority"], found["run_at"]) == (9, "2031-01-31T09:00:00.000Z")
    assert "moved: priority 9, to start at 2031-01-31" in shell("job", job).stdout
    for given, said in (([], "nowhere to move it"), (["--priority", "12"], "out of range"), (["--in", "-1"], "delay")):
        wrong = shell("move", job, *given)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert said in wrong.stderr
    assert shell("move", "nobody", "--priority", "1").returncode == 3
    shell("cancel", job)
    late = shell("move", job, "--priority", "1")
    assert (late.returncode, late.stdout) == (5, "")
    assert f"`heavylift job {job}` shows" in late.stderr


def test_a_paused_queue_starts_no_job_until_it_is_resumed(working):
    first = working("submit", "add", "a=1", "--queue", "switched", "--wait")
    assert first.returncode == 0
    paused = working("queues", "pause", "switched")
    assert (paused.returncode, paused.stdout, paused.stderr) == (0, "paused  switched\n", "")
    assert row(working, ["queues"], "switched")[1] == "paused"
    held = working("submit", "add", "a=2", "--queue", "switched").stdout.strip()
    # A job that was submitted later, and is over, shows that the worker looked.
    assert working("submit", "add", "a=3", "--wait").returncode == 0
    assert json.loads(working("job", held, "--json").stdout)["state"] == "queued"
    resumed = working("queues", "resume", "switched")
    assert (resumed.returncode, resumed.stdout) == (0, "resumed  switched\n")
    while json.loads(working("job", held, "--json").stdout)["state"] != "succeeded":
        pass


def test_a_queue_is_named_as_the_store_knows_it(working):
    working("submit", "add", "a=1", "--queue", "reports", "--delay", "1h")
    wrong = working("queues", "resume", "reprots")
    assert wrong.returncode == 2
    assert "Did you mean 'reports'?" in wrong.stderr
    early = working("queues", "pause", "reprots", "--json")
    assert json.loads(early.stdout)["paused"] is True
    assert "Did you mean 'reports'?" in early.stderr
    nonsense = working("queues", "pause", "no name")
    assert nonsense.returncode == 2
    assert "cannot name a queue" in nonsense.stderr
    assert "'pause'" in working("queues", "puase", "reports").stderr


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_store_is_named_before_the_command_or_after_it(shell, place):
    shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--store", "sqlite:///other.db")
    named = ["--store", "sqlite:///other.db", "--json"]
    command = ["queues", *named, "pause", "default"] if place == "before" else ["queues", "pause", "default", *named]
    assert json.loads(shell(*command).stdout)["paused"] is True
    assert row(shell, ["queues", "--store", "sqlite:///other.db"], "default")[1] == "paused"


@pytest.mark.parametrize(("command", "said"), [("queues", "No queue in"), ("workers", "No worker is alive")])
async def test_an_empty_list_says_so(shell, command, said):
    async with Heavylift(f"sqlite:///{shell.folder}/heavylift.db"):
        ended = shell(command)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert said in ended.stderr


def test_a_worker_is_a_line_with_what_it_runs(working):
    [cells] = rows(working("workers"))
    [worker] = objects(working("workers", "--json"))
    assert cells[:4] == [worker["id"], worker["host"], str(worker["pid"]), "alive"]
    assert cells[4].endswith("/2")
    assert cells[5] == "all"
    assert cells[6].endswith(" ago")
    assert (worker["state"], worker["concurrency"], worker["queues"]) == ("alive", 2, [])
    assert worker["beat_age"] < 60
    os.kill(worker["pid"], 0)


async def test_a_worker_that_drains_or_serves_some_queues_is_seen_to(shell):
    record = WorkerRecord(
        *("w1", 1, "machine", 4711, 1, BOOT.read_text().strip(), "", 4),
        queues=("reports", "mail"),
        running=3,
        draining=True,
        started_at=1.0,
    )
    async with Heavylift(f"sqlite:///{shell.folder}/heavylift.db") as lift:
        await lift.store.beat(record, 60)
        assert rows(shell("workers"))[0][:6] == ["w1", "machine", "4711", "draining", "3/4", "reports,mail"]
        [worker] = objects(shell("workers", "--json"))
    assert (worker["running"], worker["queues"], worker["started_at"]) == (
        3,
        ["reports", "mail"],
        "1970-01-01T00:00:01.000Z",
    )


def test_a_killed_worker_is_dead_when_its_lease_is_over(shell):
    process = subprocess.Popen(
        [*HEAVYLIFT, "worker", "jobs_app:lift"],
        cwd=shell.folder,
        env=os.environ | {"HEAVYLIFT_LEASE": "2s", "HEAVYLIFT_BEAT": "500ms"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--wait").returncode == 0
        assert objects(shell("workers", "--json"))[0]["pid"] == process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    while (found := shell("workers")).stdout.split("\t")[3] != "dead":
        assert found.returncode == 0
    assert "No worker is alive" in found.stderr
