"""selftest: jobs of its own on the store, beside whatever works there."""

import json
import os
import signal
import sqlite3
import subprocess

import pytest
from tests.http.serving import HEAVYLIFT

# Many commands, one after the other: on a busy machine each takes seconds.
pytestmark = pytest.mark.timeout(300)

STEPS = ["open", "worker", "submit", "follow", "cancel", "kill", "retry", "stop"]
QUEUE = "heavylift.selftest"


def steps(text):
    return [json.loads(line) for line in text.splitlines()]


def jobs(shell, *arguments):
    return steps(shell("jobs", "--json", "--limit", "1000", *arguments).stdout)


def test_every_step_passes_on_a_fresh_store_and_nothing_is_left(shell):
    ended = shell("selftest", "jobs_app:lift", "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = steps(ended.stdout)
    assert [step["step"] for step in said] == STEPS
    assert all(step["ok"] and step["ms"] > 0 and step["what"] for step in said)
    assert shell("workers").stdout == ""
    left = jobs(shell)
    assert {job["queue"] for job in left} == {QUEUE}
    assert {job["labels"]["heavylift"] for job in left} == {"selftest"}
    assert {job["state"] for job in left} <= {"succeeded", "cancelled"}


def test_it_passes_beside_a_worker_and_does_not_touch_its_jobs(working):
    held = working("submit", "add", "a=1", "--delay", "1h").stdout.strip()
    before = steps(working("workers", "--json").stdout)
    ended = working("selftest")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [line.split()[:2] for line in ended.stdout.splitlines()[:-1]] == [["ok", step] for step in STEPS]
    assert ended.stdout.splitlines()[-1].startswith("All passed in ")
    after = steps(working("workers", "--json").stdout)
    assert [worker["id"] for worker in after] == [worker["id"] for worker in before]
    assert json.loads(working("job", held, "--json").stdout)["state"] == "queued"
    assert working("submit", "add", "a=2", "--wait").stdout == "3\n"
    # No worker but its own had one of its jobs.
    assert {job["state"] for job in jobs(working, "--queue", QUEUE)} <= {"succeeded", "cancelled"}


def test_old_jobs_of_the_application_stay(shell):
    """A worker prunes; that of the selftest does not know for how long the application keeps its jobs."""
    shell("submit", "-A", "jobs_app:lift", "add", "a=1")
    shell("cancel", "@last")
    with sqlite3.connect(shell.folder / "heavylift.db") as connection:
        connection.execute(
            "UPDATE job SET finished_at = finished_at - 86400 * 3000, created_at = created_at - 86400 * 3000"
        )
    connection.close()
    assert shell("selftest", HEAVYLIFT_SWEEP="10ms", HEAVYLIFT_KEEP="1s").returncode == 0
    assert [job["task"] for job in jobs(shell, "--queue", "default")] == ["add"]


def test_a_store_that_cannot_be_used_fails_the_first_step_with_what_to_do(shell):
    ended = shell("selftest", "--store", "sqlite:////no/such/folder/jobs.db", "--json")
    assert ended.returncode == 1
    [step] = steps(ended.stdout)
    assert (step["step"], step["ok"]) == ("open", False)
    assert "create its folder" in step["what"]
    assert "heavylift doctor" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_worker_that_cannot_start_fails_its_step_with_what_it_said(shell):
    ended = shell("selftest", "jobs_app:lift", HEAVYLIFT_LEASE="1s", HEAVYLIFT_BEAT="1s")
    assert ended.returncode in (1, 2)
    assert "at most half of lease" in ended.stdout + ended.stderr


def test_an_interrupt_ends_its_worker_and_its_jobs(shell):
    command = [*HEAVYLIFT, "selftest", "jobs_app:lift", "--json"]
    with subprocess.Popen(command, cwd=shell.folder, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        for line in process.stdout:
            if json.loads(line)["step"] == "follow":
                process.send_signal(signal.SIGINT)
                break
        process.communicate(timeout=50)
    assert process.returncode in (0, 130)
    assert shell("workers").stdout == ""
    assert {job["state"] for job in jobs(shell)} <= {"succeeded", "cancelled"}
