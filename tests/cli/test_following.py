"""watch and logs: what a job does and says, until now and live."""

import contextlib
import json
import os
import re
import signal
import subprocess

import pytest
from tests.cli.conftest import Shell
from tests.http.serving import HEAVYLIFT, serving

from heavylift import Heavylift
from heavylift.core import event
from heavylift.core.job import Change, NewEvent

TALKING = """
from pathlib import Path
from heavylift import Context, Heavylift

lift = Heavylift()

@lift.task(max_attempts=1)
def talk(ctx: Context, gate: str) -> str:
    ctx.log.info("first")
    ctx.progress(1, 2, unit="words")
    word = Path(gate).read_text()
    ctx.log.warning("second\\nand its rest, \\x1b[31m[bold]")
    if word == "fail":
        raise ValueError("no luck today")
    return word
"""

TIME = r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d{3}"


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """A folder with an application whose jobs say something before a gate and after it."""
    folder = tmp_path_factory.mktemp("talking")
    (folder / "talking.py").write_text(TALKING)
    with serving("--concurrency", "2", cwd=folder, app="talking:lift"):
        yield Shell(folder, {"HEAVYLIFT_APP": "talking:lift"})


@pytest.fixture
def gate(tmp_path):
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def begun(shell, gate):
    return shell("submit", "talk", f"gate={gate}").stdout.strip()


@contextlib.contextmanager
def started(shell, *arguments):
    process = subprocess.Popen(
        [*HEAVYLIFT, *arguments],
        cwd=shell.folder,
        # Buffered as a pipe is for users: what is not flushed does not come.
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | shell.settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()  # one that follows a job which a failed test left unfinished would never end


def test_a_followed_log_comes_as_it_is_written_and_ends_with_the_job(talking, gate):
    id = begun(talking, gate)
    with started(talking, "logs", id, "-f", "--json") as process:
        first = json.loads(process.stdout.readline())
        assert (first["level"], first["message"]) == ("info", "first")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["at"])
        until_now = talking("logs", id, "--json")
        assert [json.loads(line)["message"] for line in until_now.stdout.splitlines()] == ["first"]
        gate.write_text("done")
        [second] = map(json.loads, process.stdout.readlines())
        assert second["level"] == "warning"
        assert process.wait() == 0
    assert talking("logs", id, "--follow", "--json").stdout == talking("logs", id, "--json").stdout


def test_a_log_has_times_and_levels_and_commands_no_terminal(talking, gate):
    id = begun(talking, gate)
    gate.write_text("done")
    assert talking("watch", id).returncode == 0
    first, second, rest = talking("logs", id).stdout.splitlines()
    assert re.fullmatch(TIME + "  info     first", first)
    assert re.fullmatch(TIME + "  warning  second", second)
    assert rest == " " * second.index("second") + "and its rest, �[31m[bold]"


def test_who_stops_following_leaves_the_job_alone(talking, gate):
    id = begun(talking, gate)
    for command, stream in [(["logs", id, "-f"], "stdout"), (["watch", id], "stderr")]:
        with started(talking, *command) as process:
            getattr(process, stream).readline()
            process.send_signal(signal.SIGINT)
            assert f"heavylift cancel {id}" in process.stderr.read()
            assert process.wait() == 130
    gate.write_text("done")
    assert talking("watch", id).stdout == '"done"\n'


def test_a_watch_shows_progress_then_prints_the_result_alone(talking, gate):
    id = begun(talking, gate)
    with started(talking, "watch", id) as process:
        said = ""
        while "1/2 words" not in said:
            said += process.stderr.readline()
        assert "attempt 1 started" in said
        gate.write_text("done")
        assert process.stdout.read() == '"done"\n'
        assert "succeeded" in process.stderr.read()
        assert process.wait() == 0


def test_a_watch_of_a_job_that_fails_is_exit_code_1(talking, gate):
    id = begun(talking, gate)
    gate.write_text("fail")
    ended = talking("watch", id)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no luck today" in ended.stderr
    shown = talking("watch", id, "--json")
    assert (shown.returncode, json.loads(shown.stdout)["state"]) == (1, "failed")


def test_a_job_that_is_over_waits_for_no_worker(shell):
    id = shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--delay", "1h").stdout.strip()
    shell("cancel", id)
    ended = shell("watch", id)
    assert ended.returncode == 1
    assert "no worker" not in ended.stderr
    assert "was cancelled" in ended.stderr


async def test_a_long_log_is_printed_whole_with_what_was_dropped(shell):
    id = shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--delay", "1h").stdout.strip()
    silent = shell("logs", id)
    assert (silent.returncode, silent.stdout) == (0, "")
    assert "has written nothing" in silent.stderr
    async with Heavylift(f"sqlite:///{shell.folder}/heavylift.db") as lift:
        job = await lift.client.get(id)
        lines = [{"lines": [{"at": 1.0, "level": "info", "message": str(number)}]} for number in range(1500)]
        lines[-1]["dropped"] = 7
        facts = tuple(NewEvent(event.LOG, line) for line in lines)
        assert await lift.store.save([Change(id, job.state, job.attempt, {}, facts)]) != [None]
    found = [json.loads(line) for line in shell("logs", id, "--json").stdout.splitlines()]
    assert [line["message"] for line in found[:-1]] == [str(number) for number in range(1500)]
    assert found[-1]["dropped"] == 7
    assert "(7 lines dropped" in shell("logs", id).stdout.splitlines()[-1]
