"""What a person sees: on a terminal of some width, with and without colours, and what a pipe gets."""

import os
import pty
import re
import struct
import subprocess
import termios
from fcntl import ioctl

import pytest
from tests.http.serving import HEAVYLIFT

from heavylift.core.job import State

# Many commands, one after the other: on a busy machine each takes seconds.
pytestmark = pytest.mark.timeout(300)

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LONG = "日本語のとても長い名前🐎" * 20


def seen(shell, *arguments, columns=80, once=None, **environment):
    """What the command writes to a terminal of so many columns, and its exit code. `once`: (a text, what is called when
    that is there).
    """
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [*HEAVYLIFT, *arguments],
        cwd=shell.folder,
        env=clean | {"TERM": "xterm-256color"} | shell.settings | environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    text = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while data := terminal.read(4096):
                text += data
                if once is not None and once[0].encode() in text:
                    once[1]()
                    once = None
        except OSError:  # how Linux says that nobody is at the other end any more
            pass
    return text.decode().replace("\r\n", "\n"), process.wait(50)


@pytest.fixture
def filled(shell):
    """A store with a job, and how it is named."""
    shell.settings["HEAVYLIFT_APP"] = "jobs_app:lift"
    id = shell("submit", "bounded", "share=0.5", f"name={LONG}", "--queue", "a-queue-with-quite-a-name").stdout.strip()
    return shell, id


@pytest.mark.parametrize(
    ("columns", "shown", "gone"),
    [
        (120, ["ID", "TASK", "STATE", "DONE", "TOOK", "AGE", "QUEUE"], []),
        (80, ["ID", "TASK", "STATE", "AGE"], ["QUEUE"]),
        (60, ["ID", "TASK", "STATE", "AGE"], ["QUEUE"]),
        (34, ["ID", "TASK", "STATE"], ["QUEUE", "AGE"]),
    ],
)
def test_a_table_of_jobs_fits_the_terminal(filled, columns, shown, gone):
    shell, id = filled
    text, code = seen(shell, "jobs", columns=columns)
    assert code == 0
    head, row = COLOUR.sub("", text).splitlines()
    assert max(len(head.rstrip()), len(row.rstrip())) <= columns
    for name in shown:
        assert name in head.split()
    for name in gone:
        assert name not in head.split()
    named = row.split()[0]
    assert id.endswith(named)
    # What stands there names the job.
    assert id in shell("job", named).stdout


@pytest.mark.parametrize(("columns", "gone"), [(80, ["OLDEST", "RATE", "DRAINS"]), (150, [])])
def test_long_texts_take_no_figures_away(filled, columns, gone):
    shell, _ = filled
    shell("queues", "pause", "z" * 128, "--by", "anna", "--reason", "down,\n\x1b[31msince noon " + "see the wiki " * 60)
    text, code = seen(shell, "queues", columns=columns, NO_COLOR="1")
    lines = COLOUR.sub("", text).splitlines()
    assert code == 0
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert [name for name in ("RUNNING", "WAITING", "OLDEST", "RATE", "DRAINS") if name not in lines[0].split()] == gone
    _, queue, long = lines
    assert queue.split()[:4] == ["a-queue-with-quite-a-name", "open", "0", "1"]
    assert long.split()[1:4] == ["paused", "0", "0"]
    assert "\x1b" not in text.replace("\x1b[0m", "").replace("\x1b[1m", "")
    cells = shell("queues").stdout.splitlines()[-1].split("\t")
    assert "by anna: down, �[31msince noon" in cells[-1], "one line in a pipe, too"
    said = shell("queues", "pause", "z" * 128).stderr
    assert said.count("\n") == 1
    assert "\x1b" not in said


def test_a_time_that_comes_is_not_told_as_one_that_was(filled):
    shell, _ = filled
    id = shell("submit", "add", "a=1", "--expires", "2h", "--delay", "110m").stdout.strip()
    text = shell("job", id).stdout
    assert re.search(r"expires +\S+( \S+)? \(in 1 h 59 min\)", text)
    assert shell("jobs", "--task", "add").stdout.splitlines()[0].split("\t")[-1] == "in 1 h 49 min"


@pytest.mark.parametrize("command", ["queues", "jobs"])
def test_colours_are_for_terminals_that_want_them(filled, command):
    shell, _ = filled
    shell("queues", "pause", "a-queue-with-quite-a-name")
    assert COLOUR.search(seen(shell, command)[0])
    assert "\x1b[3" not in seen(shell, command, NO_COLOR="1")[0]
    assert "\x1b" not in shell(command).stdout


def test_a_job_on_a_narrow_terminal_shows_wide_text_whole(filled):
    shell, id = filled
    text, code = seen(shell, "job", id, columns=60)
    assert code == 0
    assert LONG in COLOUR.sub("", text)


def test_findings_are_wrapped_below_each_other(filled):
    shell, _ = filled
    text, code = seen(shell, "doctor", columns=60)
    lines = COLOUR.sub("", text).splitlines()
    assert code == 1
    assert max(len(line) for line in lines if "/" not in line) <= 60  # a path has no place to be broken
    [place] = [number for number, line in enumerate(lines) if line.startswith("fail  workers")]
    assert lines[place + 1].strip() == "→ Start one: heavylift worker APP"
    assert re.fullmatch(r"\d+ ok · (\d+ warnings? · )?1 failure", lines[-1])


def test_a_live_bar_says_all_of_why_a_job_waits(working):
    working("queues", "pause", "held", "--by", "anna", "--reason", "the disks of the archive are being replaced")
    id = working("submit", "add", "a=1", "--queue", "held").stdout.strip()
    stop = ("queue 'held'", lambda: working("cancel", id))
    text, code = seen(working, "watch", id, once=stop)
    assert code == 1
    words = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|━+|\d:\d\d:\d\d", " ", text).split())
    assert "queued add queue 'held' is paused by anna since" in words
    assert "(the disks of the archive are being replaced); `heavylift queues resume held` lets it start" in words


def test_a_live_bar_ends_as_a_line_with_the_result_below_it(working):
    text, code = seen(working, "submit", "add", "a=2", "--wait", columns=60)
    assert code == 0
    assert COLOUR.sub("", text).splitlines()[-1] == "3"
    assert re.search(r"succeeded.* after", COLOUR.sub("", text))
    failed, code = seen(working, "submit", "broken", "--wait", columns=60)
    assert code == 1
    assert "no luck today" in failed


@pytest.mark.parametrize("command", [["jobs"], ["jobs", "--json"], ["doctor"], ["job", "@last"], ["--help"]], ids=str)
def test_a_reader_that_has_enough_ends_a_command_without_a_traceback(filled, command):
    shell, _ = filled
    for _ in range(2):
        shell("submit", "bounded", "share=0.5", f"name={LONG}")
    reading, writing = os.pipe()
    os.close(reading)  # nobody reads from the beginning: every write is one too many
    try:
        ended = subprocess.run(
            [*HEAVYLIFT, *command],
            cwd=shell.folder,
            env=os.environ | shell.settings,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert "Traceback" not in ended.stderr
    assert "BrokenPipe" not in ended.stderr
    assert ended.returncode == 0


def test_a_part_of_an_id_names_its_job_and_an_ambiguous_one_names_all(filled):
    shell, id = filled
    for part in (id[-8:], id[-8:].upper(), id[:-1], "@last"):
        assert id in shell("job", part).stdout, part
    other = shell("submit", "add", "a=1", "--delay", "1h").stdout.strip()
    assert other in shell("job", "@last").stdout
    ended = shell("cancel", id[:4])  # the time, in minutes: it is the same for both
    assert ended.returncode == 2
    for text in (id, other, "give more of it"):
        assert text in ended.stderr
    assert shell("cancel", other[-8:]).returncode == 0
    assert shell("job", other[-8:], "--json").stdout.find(State.CANCELLED) > 0
    assert shell("retry", other[-8:], "nope").returncode == 3
    for unknown in ("zzzz", id[-3:], "%"):
        assert shell("job", unknown).returncode == 3


def test_without_a_job_there_is_no_last_one(shell):
    (shell.folder / "heavylift.db").touch()
    ended = shell("job", "@last")
    assert ended.returncode == 3
    assert "no job '@last'" in ended.stderr


def test_the_application_of_the_project_is_meant_when_none_is_named(shell):
    (shell.folder / "pyproject.toml").write_text("[tool.heavylift]\napp = 'jobs_app:lift'\nstore = 'sqlite:///p.db'\n")
    below = shell.folder / "below"
    below.mkdir()
    id = shell("submit", "add", "a=1").stdout.strip()
    assert id in shell("jobs").stdout
    assert (shell.folder / "p.db").exists()
    wrong = shell("jobs", HEAVYLIFT_APP="jobs_app:left")
    assert "Did you mean jobs_app:lift?" in wrong.stderr
    (shell.folder / "pyproject.toml").write_text("[tool.heavylift]\nstoer = 1\n")
    misspelled = shell("jobs")
    assert misspelled.returncode == 2
    assert "Did you mean 'store'?" in misspelled.stderr


@pytest.mark.parametrize("role", ["cron", "frontend"])
def test_a_role_of_a_later_version_refuses_to_start(shell, role):
    for ended in (shell("serve", "jobs_app:lift", SERVICE_TYPE=role), shell("serve", "jobs_app:lift", "--role", role)):
        assert ended.returncode == 2
        assert "is not in this version" in ended.stderr
