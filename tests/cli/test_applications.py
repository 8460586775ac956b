"""How an application is found, and what is said when it is not."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.http.serving import HEAVYLIFT
from tests.telemetry.seen import eventually

OTHERS = {
    "two.py": "from heavylift import Heavylift\nfirst, second = Heavylift(), Heavylift()\n",
    "none.py": "x = 1\n",
    "syntax.py": "def broken(:\n",
    "raises.py": "def inner():\n    raise ValueError('the reason')\n\ninner()\n",
    "needs.py": "import no_such_module_at_all\n",
    "leaves.py": "import sys\nsys.exit(7)\n",
    "package/__init__.py": "",
    "package/jobs.py": "from heavylift import Heavylift\nlift = Heavylift()\n",
}


@pytest.fixture
def others(shell):
    for name, text in OTHERS.items():
        path = shell.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return shell


WRONG = {
    "no attribute": ("jobs_app", "Did you mean jobs_app:lift?"),
    "another attribute": ("jobs_app:left", "Did you mean jobs_app:lift?"),
    "another type": ("jobs_app:add", "is of type BoundTask, not Heavylift. Did you mean jobs_app:lift?"),
    "one of two": ("two:frist", "Did you mean two:first?"),
    "two": ("two:x", "two:first, two:second"),
    "none": ("none:x", "write lift = Heavylift(…)"),
    "a file": ("jobs_app.py:lift", "jobs_app:lift"),
    "a path": ("package/jobs.py", "package.jobs:lift"),
    "a mistyped module": ("job_app:lift", "Did you mean 'jobs_app'?"),
    "a mistyped submodule": ("package.job:lift", "Did you mean 'package.jobs'?"),
    "nonsense": ("a b:c", "module:attribute"),
    "nothing": ("", "module:attribute"),
}


@pytest.mark.parametrize(("target", "said"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("command", ["serve", "worker", "check"])
def test_a_wrong_name_leads_to_the_right_one(others, command, target, said):
    ended = others(command, target)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


BROKEN = {
    "syntax": ("syntax.py", "SyntaxError"),
    "raises": ("in inner", "ValueError: the reason"),
    "needs": ("needs.py", "No module named 'no_such_module_at_all'"),
    "leaves": ("leaves.py", "SystemExit: 7"),
}


@pytest.mark.parametrize(("module", "said"), BROKEN.items(), ids=BROKEN)
def test_a_module_that_does_not_import_shows_its_own_part_of_the_traceback(others, module, said):
    ended = others("serve", f"{module}:lift")
    assert ended.returncode == 2
    for text in (*said, str(others.folder)):
        assert text in ended.stderr
    for inside in ("importlib", "heavylift/cli"):
        assert inside not in ended.stderr


def test_a_module_that_is_not_there_lists_where_it_was_looked_for(others):
    ended = others("serve", "nowhere:lift")
    assert f"looked for in\n  {others.folder}\n" in ended.stderr


def test_what_an_application_prints_when_it_is_imported_is_not_what_a_command_prints(others):
    (others.folder / "loud.py").write_text("print('I am being imported')\nfrom jobs_app import lift\n")
    for arguments in (("check", "loud:lift", "--json"), ("submit", "-A", "loud:lift", "add", "a=1", "--json")):
        ended = others(*arguments)
        assert ended.returncode == 0, ended.stderr
        assert all(json.loads(line) for line in ended.stdout.splitlines())
        assert "I am being imported" in ended.stderr


def test_a_role_that_does_not_exist_names_those_that_do(others):
    ended = others("serve", "jobs_app:lift", SERVICE_TYPE="wroker")
    assert ended.returncode == 2
    for role in ("monolith", "api", "worker"):
        assert role in ended.stderr


def test_a_setting_that_cannot_be_used_is_named(others):
    ended = others("serve", "jobs_app:lift", "--drain", "soon")
    assert ended.returncode == 2
    assert "drain" in ended.stderr


@pytest.mark.parametrize("command", [["worker", "jobs_app:lift"], ["serve", "jobs_app:lift", "--role", "worker"]])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_is_one_process_that_works_and_drains_when_told_to(shell, command, number):
    process = subprocess.Popen(
        [*HEAVYLIFT, *command], cwd=shell.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        ended = shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--wait")
        assert (ended.returncode, ended.stdout) == (0, "2\n")
        assert "heavylift.process" in _command_line(process.pid)
        process.send_signal(number)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


NEVER_DONE = """
import os, subprocess
from pathlib import Path
from heavylift import Heavylift

lift = Heavylift()
if Path("/proc/self/comm").read_text() == "heavylift-nanny\\n":
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path("importing.new").write_text(f"{os.getpid()} {child.pid}")
    Path("importing.new").rename("importing")
    while True:
        pass
"""


def test_a_worker_that_is_stopped_while_it_starts_leaves_nothing_behind(shell):
    """Its exit tells a service manager that all is gone: what imports the application, and what that has started."""
    (shell.folder / "never_done.py").write_text(NEVER_DONE)
    log = shell.folder / "log"
    with log.open("w") as said:
        process = subprocess.Popen([*HEAVYLIFT, "worker", "never_done:lift"], cwd=shell.folder, stderr=said)
    try:
        eventually((shell.folder / "importing").exists, "the import")
        pids = [int(pid) for pid in (shell.folder / "importing").read_text().split()]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_a_worker_serves_the_queues_that_it_is_given(shell):
    process = subprocess.Popen(
        [*HEAVYLIFT, "worker", "jobs_app:lift", "--queues", "mine"],
        cwd=shell.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        other = shell("submit", "-A", "jobs_app:lift", "add", "a=1").stdout.strip()
        mine = shell("submit", "-A", "jobs_app:lift", "add", "a=1", "--queue", "mine", "--wait")
        assert mine.stdout == "2\n"
        assert "queued" in shell("job", other).stdout
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_the_folder_of_the_command_comes_first(others):
    (others.folder / "json_jobs.py").write_text("from heavylift import Heavylift\nlift = Heavylift()\n")
    ended = others("submit", "-A", "json_jobs:lift", "x", PYTHONPATH=os.devnull)
    assert ended.returncode == 3
    assert "the application has no tasks" in ended.stderr
