"""Command tasks: programs in the place of functions, in real hosts."""

import asyncio
import errno
import json
import sys
from pathlib import Path

import pytest
from applications import pool_of, write
from tests.few_descriptors import only

from heavylift import Context, Heavylift
from heavylift.core.errors import ConfigError, InvalidArguments
from heavylift.core.job import Progress
from heavylift.core.outcome import Cancelled, Failed, Interrupted, Succeeded, TimedOut
from heavylift.executor import LogLines, StopReason
from heavylift.testing.executors.cases import ExecutorSuite, alive, until

give = ExecutorSuite().give
HEAD = "import sys\nfrom heavylift import Heavylift\nlift = Heavylift('memory://')\n"
COMMANDS = r"""
python = [sys.executable, "-u", "-c"]
lift.command("echo", ["echo", "to", "{whom}", "{{braces}}"])
lift.command("join", [*python, "import sys; print('|'.join(sys.argv[1:]))", "{files}", "--size={size}"],
             {"files": list[str], "size": int})
lift.command("noise", [*python, "import sys; print('out', flush=True); print('err', file=sys.stderr); print('a\\rb')"])
lift.command("code", [*python, "import sys; print('sorry', file=sys.stderr); sys.exit({code})"], {"code": int},
             ok_exit_codes={0, 3}, give_up_exit_codes={4})
lift.command("missing", ["no-such-program-anywhere"])
lift.command("nowhere", ["true"], cwd="/no/such/folder")
lift.command("no-program", ["/etc/passwd"])
lift.command("percent", [*python, "print('5% of it'); print('frame 10/20'); print('100% done')"],
             progress=r"(?P<percent>\d+)%|frame (?P<done>\d+)/(?P<total>\d+)")
lift.command("env", [*python, "import os; print(os.environ['COLOUR'], os.getcwd(), bool(os.environ['PATH']))"],
             env={"COLOUR": "blue"}, cwd="/")
lift.command("stdin", ["cat"])
lift.command("long-line", [*python, "print('x' * 100_000)"])
lift.command("burn", [*python, "import time\nwhile time.process_time() < 0.3: pass"])
GENTLE = "import signal, sys, time\ndef end(*_):\n open(sys.argv[1] + '.ended', 'w').close(); sys.exit(0)\n" \
         "signal.signal(15, end)\nopen(sys.argv[1], 'w').close()\nprint('begun')\ntime.sleep(1000)"
lift.command("gentle", [*python, GENTLE, "{path}"])
CHATTY = "import signal, sys, time\ndef end(*_):\n for number in range(5000): print('cleaning %050d' % number)\n" \
         " print('cleaned', flush=True); sys.exit(0)\n" \
         "signal.signal(15, end)\nprint('begun', flush=True)\ntime.sleep(1000)"
lift.command("chatty", [*python, CHATTY])
STUBBORN = "import os, signal, subprocess, sys, time\nsignal.signal(15, signal.SIG_IGN)\n" \
           "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n" \
           "print(os.getpid(), child.pid)\ntime.sleep(1000)"
lift.command("stubborn", [*python, STUBBORN])
"""


@pytest.fixture
async def pool(tmp_path):
    write(tmp_path, "commands", COMMANDS, head=HEAD)
    pool = await pool_of(tmp_path, "commands")
    await pool.start()
    yield pool
    await pool.close(0.0)


async def result(pool, task, **arguments):
    attempt = give(pool, task, **arguments)
    outcome = await attempt.outcome()
    assert isinstance(outcome, Succeeded), outcome
    return json.loads(outcome.result), attempt


async def error(pool, task, **arguments):
    outcome = await give(pool, task, **arguments).outcome()
    assert isinstance(outcome, Failed), outcome
    return outcome


async def test_arguments_are_texts_of_argv_and_no_shell_reads_them(pool, tmp_path):
    found, _ = await result(pool, "echo", whom=f"$HOME; touch {tmp_path}/bad `id` *")
    assert found == {"exit_code": 0, "output": f"to $HOME; touch {tmp_path}/bad `id` * {{braces}}"}
    assert not (tmp_path / "bad").exists()


async def test_a_list_becomes_many_arguments(pool):
    found, _ = await result(pool, "join", files=["a b", "", "c"], size=7)
    assert found["output"] == "a b||c|--size=7"
    found, _ = await result(pool, "join", files=[], size=0)
    assert found["output"] == "--size=0"


async def test_what_it_writes_is_the_log_by_streams_and_lines(pool):
    found, attempt = await result(pool, "noise")
    lines = [(line["level"], line["message"]) for report in attempt.of(LogLines) for line in report.lines]
    assert sorted(lines) == [("info", "a"), ("info", "b"), ("info", "out"), ("warning", "err")]
    assert found["output"] == "out\na\nb"


async def test_the_log_comes_while_the_program_goes_on(pool, tmp_path):
    attempt = give(pool, "gentle", path=str(tmp_path / "file"))
    await until(lambda: attempt.lines == ["begun"])
    pool.stop(attempt.job.id, 1, StopReason.CANCEL, 0.0, force=True)
    await attempt.outcome()


async def test_a_long_line_is_cut_and_the_output_keeps_its_end(pool):
    found, attempt = await result(pool, "long-line")
    assert "".join(attempt.lines) == "x" * 100_000
    assert max(map(len, attempt.lines)) == 8192
    assert 0 < len(found["output"]) < 20_000


@pytest.mark.parametrize("code", [0, 3])
async def test_exit_codes_that_are_fine_are_results(pool, code):
    found, _ = await result(pool, "code", code=code)
    assert found["exit_code"] == code


@pytest.mark.parametrize(("code", "retryable"), [(1, True), (4, False)])
async def test_other_exit_codes_fail_with_what_the_program_said(pool, code, retryable):
    outcome = await error(pool, "code", code=code)
    assert outcome.error.message == f"{sys.executable} ended with exit code {code}:\nsorry"
    assert outcome.retryable == retryable


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("missing", "The program 'no-such-program-anywhere' is not there; install it"),
        ("nowhere", "The working directory '/no/such/folder'"),
        ("no-program", "The program '/etc/passwd' cannot be started"),
    ],
)
async def test_what_cannot_be_started_fails_at_once_and_says_why(pool, task, said):
    outcome = await error(pool, task)
    assert outcome.error.message.startswith(said)
    assert not outcome.retryable


def test_what_cannot_be_started_just_now_is_tried_again():
    call = Heavylift("memory://").command("true", ["true"])
    ctx = Context.fake()
    with only(0), pytest.raises(OSError, match="The program 'true' cannot be started") as raised:
        call(ctx)
    assert raised.value.errno == errno.EMFILE
    assert call(ctx).exit_code == 0


async def test_progress_is_read_from_the_lines(pool):
    _, attempt = await result(pool, "percent")
    assert [report.percent for report in attempt.of(Progress)][-1] == 100.0


async def test_environment_folder_and_an_empty_input(pool):
    found, _ = await result(pool, "env")
    assert found["output"] == "blue / True"
    assert (await result(pool, "stdin"))[0]["output"] == ""


async def test_the_cpu_time_of_the_program_counts(pool):
    outcome = await give(pool, "burn").outcome()
    assert outcome.usage.cpu >= 0.3


@pytest.mark.parametrize("reason", [StopReason.CANCEL, StopReason.DRAIN])
async def test_a_stop_is_a_term_signal_and_the_program_may_clean_up(pool, tmp_path, reason):
    attempt = give(pool, "gentle", path=str(tmp_path / "file"))
    await attempt.begun()
    pool.stop(attempt.job.id, 1, reason, 25.0)
    outcome = await attempt.outcome()
    assert isinstance(outcome, Cancelled if reason is StopReason.CANCEL else Interrupted)
    assert (tmp_path / "file.ended").exists()


async def test_one_that_ignores_it_is_killed_with_its_children(pool):
    attempt = give(pool, "stubborn")
    await attempt.begun()
    pool.stop(attempt.job.id, 1, StopReason.TIMEOUT, 0.2)
    pids = [int(pid) for pid in attempt.lines[0].split()]
    outcome = await attempt.outcome()
    assert isinstance(outcome, TimedOut)
    assert outcome.killed
    assert not any(alive(pid) for pid in pids)


async def test_stops_at_any_moment_leave_no_process(pool, tmp_path):
    for number in range(40):
        path = tmp_path / str(number)
        attempt = give(pool, "gentle", path=str(path))
        await asyncio.sleep(number / 500)
        pool.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
        assert isinstance(await attempt.outcome(), Cancelled)
    mine = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and str(tmp_path) in _command(entry)]
    assert mine == []


def _command(entry):
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


# --- the definition ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"argv": "convert {src}"}, "is no argv; give a list of texts"),
        ({"argv": []}, "is no argv"),
        ({"argv": ["a", 5]}, "is no argv"),
        ({"argv": ["a", "{srx}"], "args": {"src": str}}, r"{srx} stands for no argument. Did you mean 'src'"),
        ({"argv": ["a"], "args": {"src": str}}, "its argument 'src' is used nowhere in argv; write {src} there"),
        ({"argv": ["a", "{src!r}"]}, "a placeholder is a plain name"),
        ({"argv": ["a", "{0}"]}, "a placeholder is a plain name"),
        ({"argv": ["a", "{}"]}, "a placeholder is a plain name"),
        ({"argv": ["a", "{src"]}, "write a brace as"),
        ({"argv": ["a"], "progress": "("}, "is no regular expression"),
        ({"argv": ["a"], "progress": r"(\d+)"}, "has no group that says how far it is"),
        ({"argv": ["a"], "progress": r"(?P<pct>\d+)"}, "has no group that says how far it is"),
        ({"argv": ["a"], "timeout": "soon"}, "timeout"),
        ({"argv": ["a"], "run_in": "loop"}, "cannot run in a loop"),
    ],
)
def test_a_definition_that_cannot_work_is_refused(arguments, said):
    with pytest.raises(ConfigError) as caught:
        Heavylift("memory://").command("convert", **arguments)
    assert said in str(caught.value)


def test_arguments_are_checked_and_described_as_those_of_a_function():
    lift = Heavylift("memory://")
    convert = lift.command("convert", ["convert", "{src}", "-resize", "{width}"], {"src": str, "width": int})
    assert list(convert.task.schema()["properties"]) == ["src", "width"]
    assert convert.task.bind(["a.png"], {"width": 5}, 1000) == b'{"src":"a.png","width":5}'
    with pytest.raises(InvalidArguments, match="/width"):
        convert.task.bind(["a.png"], {"width": "5"}, 1000)


def test_it_may_be_called_as_a_function():
    lift = Heavylift("memory://")
    echo = lift.command("echo", ["echo", "{word}"])
    ctx = Context.fake()
    assert echo(ctx, word="hello").output == "hello"
    assert ("log", ("info", "hello")) in ctx.reports


async def test_what_a_program_says_while_it_ends_is_heard_however_much_it_is(pool):
    attempt = give(pool, "chatty")
    await attempt.begun()
    pool.stop(attempt.job.id, 1, StopReason.CANCEL, 25.0)
    outcome = await attempt.outcome()
    assert isinstance(outcome, Cancelled), outcome
    assert not outcome.killed, "it waited for somebody to read"
    assert attempt.lines[-1] == "cleaned"
    assert len(attempt.lines) == 5002
