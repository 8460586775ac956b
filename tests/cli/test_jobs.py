"""submit, jobs, job, cancel, retry: what they print, where, and their exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from tests.http.serving import HEAVYLIFT

from heavylift import Heavylift
from heavylift.cli import expected, output
from heavylift.core import checkpoint, event
from heavylift.core.estimate import start
from heavylift.core.event import Event
from heavylift.core.job import Job, State
from heavylift.core.options import Options
from heavylift.core.queue import Standing
from heavylift.core.waiting import Server, explain
from heavylift.outlook import Outlook


def submitted(shell, *arguments):
    ended = shell("submit", *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_a_submit_prints_the_id_alone(working):
    id = submitted(working, "add", "a=1")
    assert len(id.split()) == 1
    assert json.loads(working("job", id, "--json").stdout)["id"] == id


def test_a_wait_prints_the_result_alone(working):
    ended = working("submit", "add", "a=40", "b=2", "--wait")
    assert (ended.returncode, ended.stdout) == (0, "42\n")
    assert "attempt 1 started" in ended.stderr
    assert "succeeded" in ended.stderr


def test_progress_is_plain_lines_when_piped(working, tmp_path):
    (tmp_path / "gate").write_text("open")
    ended = working("submit", "gated", f"gate={tmp_path / 'gate'}", "--wait")
    assert (ended.returncode, ended.stdout) == (0, '"open"\n')
    assert "\x1b" not in ended.stderr
    assert "100 %  3/3 steps  step 3" in ended.stderr


@pytest.mark.parametrize(("task", "reason"), [("broken", "no luck today"), ("hopeless", "there is no point")])
def test_a_job_that_fails_is_exit_code_1_with_the_next_step(working, task, reason):
    ended = working("submit", task, "--wait")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert reason in ended.stderr
    assert "heavylift job " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_who_stops_waiting_leaves_the_job_alone(working):
    command = [*HEAVYLIFT, "submit", "add", "a=1", "--delay", "1h", "--wait"]
    environment = os.environ | working.settings
    with subprocess.Popen(command, cwd=working.folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        id = process.stderr.readline().strip()
        assert "queued" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert f"heavylift cancel {id}" in process.stderr.read()
    assert process.returncode == 130
    assert json.loads(working("job", id, "--json").stdout)["state"] == "queued"


def test_a_wait_with_json_is_one_object(working):
    ended = working("submit", "add", "a=1", "--wait", "--json")
    job = json.loads(ended.stdout)
    assert (job["state"], job["result"]) == ("succeeded", 2)


def test_values_are_json_where_the_signature_takes_them_so_and_text_elsewhere(working):
    for name, result in [("7", "7: 0.5"), ("true", "true: 0.5"), ("plain text", "plain text: 0.5"), ("", ": 0.5")]:
        ended = working("submit", "bounded", "share=0.5", f"name={name}", "--wait")
        assert json.loads(ended.stdout) == result


WRONG = {
    "a task": (["ad", "a=1"], 3, "Did you mean 'add'?"),
    "an argument": (["add", "aa=1"], 2, "Did you mean 'a'?"),
    "a value": (["add", "a=x"], 2, "/a: Input should be a valid integer"),
    "a missing one": (["add"], 2, "/a: Field required"),
    "no name": (["add", "1"], 2, "NAME=VALUE"),
    "twice": (["add", "a=1", "a=2"], 2, "given twice"),
    "an option's value": (["add", "a=1", "--priority", "11"], 2, "from 0 to 9"),
    "an option": (["add", "a=1", "--priorty", "1"], 2, "--priority"),
    "a limit": (["add", "a=1", "--limit", "memry=1GiB"], 2, "Did you mean 'memory'?"),
    "a limit's value": (["add", "a=1", "--limit", "nice=20"], 2, "from 0 to 19"),
    "a label": (["add", "a=1", "--label", "x"], 2, "NAME=VALUE"),
    "an id": (["add", "a=1", "--id", "a b"], 2, "is no id of a job"),
    "an empty id": (["add", "a=1", "--id", ""], 2, "is no id of a job"),
    "a key": (["add", "a=1", "--unique", "{aa}"], 2, "Did you mean 'a'?"),
    "an argument of a key": (["synced", f"account={'x' * 600}"], 2, "/account: the key '{task}:{account}'"),
    "a mode without a key": (["add", "a=1", "--on-conflict", "reject"], 2, "without a unique key"),
    "over before it starts": (["add", "a=1", "--expires", "1m", "--delay", "2m"], 2, "waits 120 s first"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_and_nothing_is_queued(working, arguments, code, said):
    ended = working("submit", *arguments, "--queue", "wrong")
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert working("jobs", "--queue", "wrong").stdout == ""


def test_a_submit_may_come_twice(working):
    for options in (["--id", "order-7"], ["--unique", "once:{a}"]):
        first, second = (submitted(working, "add", "a=1", "--delay", "1h", *options) for _ in range(2))
        assert first == second
    assert json.loads(working("job", "order-7", "--json").stdout)["arguments"] == {"a": 1}
    other = working("submit", "add", "a=2", "--id", "order-7")
    assert (other.returncode, other.stdout) == (5, "")
    assert "The id 'order-7' belongs to a job with other arguments" in other.stderr
    assert "heavylift job order-7" in other.stderr
    taken = working("submit", "add", "a=1", "--unique", "once:1", "--on-conflict", "reject")
    assert (taken.returncode, taken.stdout) == (5, "")


def test_the_key_of_a_task_is_filled_in(working):
    first, second, other = (submitted(working, "synced", f"account={name}") for name in ("acme", "acme", "other"))
    assert first == second != other


def test_a_limit_holds_for_its_job(working):
    ended = working("submit", "bounds", "--wait", "--limit", "open_files=77", "--limit", "memory=1GiB")
    assert 77 <= json.loads(ended.stdout)["open_files"] < 120


def test_a_list_when_piped_is_tab_separated_and_newest_first(working):
    ids = [submitted(working, "add", f"a={number}", "--queue", "listed", "--delay", "1h") for number in range(3)]
    ended = working("jobs", "--queue", "listed")
    rows = [line.split("\t") for line in ended.stdout.splitlines()]
    assert [row[0] for row in rows] == ids[::-1]
    assert rows[0][1:3] == ["add", "queued"]
    two = working("jobs", "--queue", "listed", "--limit", "2")
    assert len(two.stdout.splitlines()) == 2
    assert "--limit" in two.stderr
    objects = [json.loads(line) for line in working("jobs", "--queue", "listed", "--json").stdout.splitlines()]
    assert [job["id"] for job in objects] == ids[::-1]
    assert working("jobs", "--state", "failed", "--queue", "listed").stdout == ""
    assert "Did you mean 'failed'?" in working("jobs", "--state", "faild").stderr


def test_a_job_is_shown_with_all_that_happened(working):
    working("submit", "broken", "--wait", "--label", "tenant=acme", "--queue", "shown")
    id = working("jobs", "--queue", "shown").stdout.split("\t")[0]
    text = working("job", id).stdout
    for part in (
        "broken",
        "failed",
        "tenant=acme",
        "ValueError",
        "no luck today",
        "attempt 1 started",
        f"heavylift retry {id}",
    ):
        assert part in text, part
    assert "\x1b" not in text


async def test_a_long_history_is_shown_to_its_end_and_says_why_the_job_waits(shell):
    lift = Heavylift(f"sqlite:///{shell.folder}/long.db")
    idle = lift.task(name="idle")(lambda: None)
    async with lift:
        handle = await idle.submit()
        for _ in range(510):
            await handle.cancel()
            await lift.client.retry(handle.id)
    text = shell("job", handle.id, "--store", lift.store_url).stdout
    assert text.count("  cancelled\n") == 510, text[-500:]
    assert "waits       no live worker takes jobs; `heavylift worker APP` starts one" in text
    as_json = json.loads(shell("job", handle.id, "--store", lift.store_url, "--json").stdout)
    assert (as_json["waiting"]["code"], as_json["waiting_reason"]) == ("no-worker", "no live worker takes jobs")


def test_of_a_long_log_only_the_end_is_shown_with_a_job(capsys):
    line = {"at": 1.0, "level": "info"}
    logs = [Event("a", seq, event.LOG, 1.0, {"lines": [line | {"message": f"line {seq}"}]}) for seq in range(2, 52)]
    first = Event("a", 1, event.STATE, 0.0, {"state": "queued"})
    steps = checkpoint.written(checkpoint.Saved(b"7", {"fetch": b"1"}))
    output.job(Job("a", "idle", b"{}", Options(), State.RUNNING, 0.0, 0.0, checkpoint=steps), [first, *logs])
    text = capsys.readouterr().out
    assert [part in text for part in ("line 31\n", "line 32\n", "line 51\n")] == [False, True, True]
    assert "(30 lines of its log: heavylift logs a)" in text
    assert "checkpoint  7\n" in text
    assert "steps       fetch\n" in text


def test_a_cancel_prints_the_receipt(working):
    id = submitted(working, "spin", "--delay", "1h")
    ended = working("cancel", id, "--reason", "enough")
    assert ended.returncode == 0
    assert ended.stdout.startswith("cancelled")
    assert "had not started" in ended.stdout
    again = working("cancel", id)
    assert again.returncode == 5
    assert f"heavylift job {id}" in again.stderr
    retried = working("retry", id)
    assert (retried.returncode, retried.stdout) == (0, f"queued  {id}\n")
    assert json.loads(working("cancel", id, "--json", "--force").stdout)["state"] == "cancelled"
    assert working("retry", submitted(working, "add", "a=1", "--delay", "1h")).returncode == 5


def test_a_stack_is_shown_with_its_processes(working, tmp_path):
    os.mkfifo(tmp_path / "gate")
    id = submitted(working, "gated", f"gate={tmp_path / 'gate'}")
    while "running" not in working("job", id).stdout:
        pass
    text = working("stack", id)
    assert text.returncode == 0, text.stderr
    for part in (id, "attempt 1", "in gated\n", "source ", "process ", "heavylift-host"):
        assert part in text.stdout, part
    found = json.loads(working("stack", id, "--json").stdout)
    assert "in gated" in found["text"]
    (tmp_path / "gate").write_text("open")
    assert working("watch", id).returncode == 0
    over = working("stack", id)
    assert (over.returncode, over.stdout) == (5, "")
    assert "is over (succeeded)" in over.stderr
    assert f"heavylift job {id}" in over.stderr


def test_a_retry_says_where_the_job_begins(working, tmp_path):
    (tmp_path / "gate").write_text("open")
    working("submit", "resuming", f"gate={tmp_path / 'gate'}", "fail=true", "--wait", "--queue", "resumed")
    id = working("jobs", "--queue", "resumed").stdout.split("\t")[0]
    saved = json.loads(working("job", id, "--json").stdout)
    assert (saved["checkpoint"], saved["steps"]) == (1, {"greet": "Hello"})
    for option, said, result in (
        ([], "goes on from its checkpoint; --from-start", "2\n"),
        (["--from-checkpoint"], "goes on from its checkpoint.", "3\n"),
        (["--from-start"], "begins from the start; its checkpoint is gone", ""),
    ):
        ended = working("retry", id, *option)
        assert (ended.returncode, ended.stdout) == (0, f"queued  {id}\n")
        assert said in ended.stderr
        assert working("watch", id).stdout == result
    assert "queued anew, from its checkpoint" in working("job", id).stdout


def test_a_retry_whose_unique_key_is_taken_names_the_holder(working):
    old, new = "", ""
    for _ in range(2):
        old, new = new, submitted(working, "add", "a=1", "--delay", "1h", "--unique", "key")
        if not old:
            working("cancel", new)
    ended = working("retry", old)
    assert (ended.returncode, ended.stdout) == (5, "")
    assert new in ended.stderr
    assert f"heavylift job {new}" in ended.stderr
    working("cancel", new)


def test_a_refused_retry_holds_up_no_other(working):
    over = [submitted(working, "add", "a=1", "--delay", "1h", "--queue", "retried") for _ in range(2)]
    waiting = submitted(working, "add", "a=1", "--delay", "1h", "--queue", "retried")
    for id in over:
        assert working("cancel", id).returncode == 0
    ended = working("retry", over[0], waiting, "nobody", over[1], "--json")
    assert ended.returncode == 5
    assert [(job["id"], job["state"]) for job in map(json.loads, ended.stdout.splitlines())] == [
        (id, "queued") for id in over
    ]
    assert f"heavylift cancel {waiting}" in ended.stderr
    assert "There is no job 'nobody'." in ended.stderr
    assert working("retry", "nobody", waiting).returncode == 3


@pytest.mark.parametrize("command", ["job", "stack", "cancel", "retry", "watch", "logs"])
def test_an_unknown_job_is_exit_code_3(working, command):
    ended = working(command, "nobody")
    assert ended.returncode == 3
    assert "heavylift jobs" in ended.stderr


def test_a_terminal_does_not_obey_what_a_job_says(working):
    ended = working("submit", "bounded", "share=1", "name=\x1b[31mred[bold]", "--wait", "--queue", "escapes")
    id = working("jobs", "--queue", "escapes").stdout.split("\t")[0]
    assert ended.returncode == 0
    text = working("job", id).stdout
    assert "\x1b" not in text
    assert "[bold]" in text


def test_looking_creates_no_store(shell):
    ended = shell("jobs", "--store", "sqlite:///mistyped.db")
    assert ended.returncode == 4
    assert "There is no store at" in ended.stderr
    assert not (shell.folder / "mistyped.db").exists()


def test_without_any_store_the_ways_to_name_one_are_listed(shell):
    ended = shell("jobs")
    assert ended.returncode == 2
    for way in ("--store", "--app", "HEAVYLIFT_STORE", "HEAVYLIFT_APP"):
        assert way in ended.stderr


def test_a_store_is_found_by_each_of_its_names(shell):
    id = submitted(shell, "-A", "jobs_app:lift", "add", "a=1")
    assert (shell.folder / "heavylift.db").exists()
    for arguments, environment in [
        ([], {}),
        (["--store", "sqlite:///heavylift.db"], {}),
        (["-A", "jobs_app:lift"], {}),
        ([], {"HEAVYLIFT_STORE": "sqlite:///heavylift.db"}),
        ([], {"HEAVYLIFT_APP": "jobs_app:lift"}),
    ]:
        assert shell("jobs", *arguments, **environment).stdout.split("\t")[0] == id


def test_both_names_of_the_environment_hold_for_a_submit_as_for_a_look(shell):
    environment = {"HEAVYLIFT_APP": "jobs_app:lift", "HEAVYLIFT_STORE": "sqlite:///elsewhere.db"}
    ended = shell("submit", "add", "a=1", **environment)
    assert ended.returncode == 0, ended.stderr
    assert shell("jobs", **environment).stdout.split("\t")[0] == ended.stdout.strip()
    assert not (shell.folder / "heavylift.db").exists()


def test_a_file_that_is_no_store_is_named(shell):
    (shell.folder / "text.db").write_text("this is no database, and was never meant to be one" * 100)
    ended = shell("jobs", "--store", "sqlite:///text.db")
    assert ended.returncode == 2
    assert "text.db" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_needs_neither_the_web_nor_the_terminal_library(working):
    code = (
        "import sys; from heavylift.cli.commands import app; app(['--help'], standalone_mode=False);"
        "print(sorted({'rich', 'starlette', 'uvicorn', 'asyncio', 'structlog', 'sqlite3'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_list_tells_the_start_of_each_job_behind_a_rate():
    """And not that of the next one for all."""
    place, now = (Server(free=1),), time.time()
    said = []
    for ahead in (0, 3):
        job = Job(str(ahead), "add", b"{}", Options(), State.QUEUED, now, now)
        why = explain(job, Standing(rate="1/min", opens_at=now + 30.5, ahead=ahead), place, now)
        said.append(expected.short(Outlook(why, None, start(job, why, place, now))))
    assert re.fullmatch(r"queue's rate in (30|29)\.\d s", said[0])
    assert said[1] == "queue's rate in ~4 min"
