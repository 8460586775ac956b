"""Users get the types of their own functions: mypy and pyright agree on right and on wrong uses."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIGHT = HERE / "submits.py"
WRONG = HERE / "mistakes.py"

Reports = dict[int, list[str]]
Check = Callable[[Path, Path], Reports]


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: there were errors; more: it did not run
    return done.stdout


def mypy(path: Path, _: Path) -> Reports:
    """What mypy says to each line of one file; the project's own settings stay out of it."""
    output = run("mypy", "--strict", "--config-file=", "--no-error-summary", str(path))
    found: Reports = {}
    for line in output.splitlines():
        if match := re.match(r"(.+?):(\d+): error: (.*)", line):
            assert match[1].endswith(path.name), line
            found.setdefault(int(match[2]), []).append(match[3])
    return found


def pyright(path: Path, folder: Path) -> Reports:
    """What pyright says to each line of one file; the project's own settings stay out of it."""
    shutil.copy(path, folder)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(folder))
    answer = json.loads(output)
    assert answer["summary"]["filesAnalyzed"] == 1, output
    found: Reports = {}
    for report in answer["generalDiagnostics"]:
        found.setdefault(report["range"]["start"]["line"] + 1, []).append(report["message"])
    return found


CHECKERS = pytest.mark.parametrize("check", [mypy, pyright], ids=["mypy", "pyright"])


@CHECKERS
def test_right_uses_are_accepted_with_their_types(check: Check, tmp_path: Path) -> None:
    assert check(RIGHT, tmp_path) == {}


@CHECKERS
def test_each_mistake_is_reported_and_nothing_else(check: Check, tmp_path: Path) -> None:
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    planted = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
    reports = check(WRONG, tmp_path)
    missed = [lines[number - 1].strip() for number in sorted(planted - set(reports))]
    unexpected = {number: reports[number] for number in sorted(set(reports) - planted)}
    assert (missed, unexpected) == ([], {})
