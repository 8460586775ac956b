"""`heavylift --help`, from its start to its end, beside the help of another command of this kind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import Foreign
from benchmarks.report import Line, at_most, median, say

LIMIT = 1.0
OTHER = "saq"
WARM_UP = 2


def run(*, quick: bool) -> list[Line]:
    """Both in turns: the script as it is installed, its output read through a pipe."""
    rounds = 5 if quick else 40
    times: dict[str, list[float]] = {"heavylift": [], OTHER: []}
    with Foreign() as foreign:
        for number in range(rounds + WARM_UP):
            for name, taken in times.items():
                seconds = timed([str(Path(sys.executable).with_name(name)), "--help"])
                if number >= WARM_UP:
                    taken.append(seconds)
    ours, other = median(times["heavylift"]) * 1e3, median(times[OTHER]) * 1e3
    python = median([timed([sys.executable, "-c", "pass"]) for _ in range(rounds)]) * 1e3
    say(f"help: {rounds} rounds, an empty Python program takes {python:.0f} ms; {foreign}")
    return [Line("help", "heavylift --help", ours, "ms", other, f"{OTHER} --help", at_most(LIMIT))]


def timed(command: list[str]) -> float:
    """Seconds of a command that ends well."""
    began = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - began
