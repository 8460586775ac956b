"""The help: what it says, how it fits, and that it is said at once. Run as a program this writes help.txt."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.http.serving import HEAVYLIFT

from heavylift import cli
from heavylift.cli import quick
from heavylift.core.version import VERSION

# Many commands, one after the other: on a busy machine each takes seconds.
pytestmark = pytest.mark.timeout(300)

PATH = Path(cli.__file__).with_name(quick.NAME)
RENDER = "from heavylift.cli.commands import app; app(['--help'], prog_name='heavylift')"
COMMANDS = [
    *(
        "serve",
        "worker",
        "check",
        "submit",
        "jobs",
        "job",
        "watch",
        "logs",
        "stack",
        "cancel",
        "retry",
        "move",
        "workers",
    ),
    *("migrate", "prune", "queues", "queues pause", "queues resume", "queues set", "doctor", "selftest"),
]


def rendered():
    environment = os.environ | {"COLUMNS": "80"}
    command = [sys.executable, "-c", RENDER]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_help_that_is_said_at_once_is_the_help_of_the_commands():
    assert PATH.read_text() == rendered(), "run python tests/cli/test_help.py"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []], ids=str)
def test_the_help_names_every_command_with_examples_and_exit_codes(shell, arguments):
    ended = shell(*arguments)
    said = ended.stdout if arguments else ended.stderr
    assert ended.returncode == (0 if arguments else 2)
    assert said == PATH.read_text()
    for name in COMMANDS:
        assert f"\n  {name.split()[0]} " in said
    for text in ("Examples:", "Exit codes:", "  130  interrupted", "--install-completion", "--version"):
        assert text in said


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_each_help_fits_a_narrow_terminal(shell, command):
    ended = shell(*command.split(), "--help", COLUMNS="60")
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert len(lines) > 5
    # Examples and exit codes are not wrapped: they are to be copied.
    assert max(map(len, lines[: lines.index("  Examples:") if "  Examples:" in lines else None])) <= 60


@pytest.mark.parametrize("arguments", [["--version"], ["-V"], ["--version", "jobs"]], ids=str)
def test_the_version_is_said(shell, arguments):
    ended = shell(*arguments)
    assert (ended.returncode, ended.stdout) == (0, f"heavylift {VERSION}\n")


def test_the_help_loads_no_library():
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from heavylift.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'typer', 'rich', 'pydantic', 'asyncio', 'sqlite3'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_can_be_taught_to_complete(shell, name):
    script = shell("--show-completion", name, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    asked = shell(
        _HEAVYLIFT_COMPLETE=f"complete_{name}",
        COMP_WORDS="heavylift que",
        COMP_CWORD="1",
        _TYPER_COMPLETE_ARGS="heavylift que",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert asked.returncode == 0, asked.stderr
    assert "queues" in asked.stdout
    assert "workers" not in asked.stdout
    assert script.returncode == 0
    assert "_HEAVYLIFT_COMPLETE" in script.stdout


def test_a_command_that_is_misspelled_is_answered_with_the_right_one(shell):
    ended = shell("job s".replace(" ", "z"))
    assert ended.returncode == 2
    assert "jobs" in ended.stderr


if __name__ == "__main__":
    PATH.write_text(rendered())
    print(*HEAVYLIFT[:1], PATH)
