"""Answers --help and --version before anything is imported that they do not need."""

from __future__ import annotations

import os
import sys

NAME = "help.txt"
COLUMNS = 80
"""Of a terminal, from which on the help is as wide as it gets."""
COMPLETION = "_HEAVYLIFT_COMPLETE"
"""Set by a shell that asks what could follow."""


def answered(arguments: list[str]) -> int | None:
    """The exit code when the answer was given here; None when the command line has to be read."""
    if COMPLETION in os.environ:
        return None
    if arguments in (["--version"], ["-V"]):
        from heavylift.core.version import VERSION

        sys.stdout.write(f"heavylift {VERSION}\n")
        return 0
    if arguments not in ([], ["--help"], ["-h"]) or not _is_wide():
        return None
    out = sys.stdout if arguments else sys.stderr
    try:
        out.write(_help())
        out.flush()
    except BrokenPipeError:
        nobody_reads()
    return 0 if arguments else 2


def nobody_reads() -> None:
    """Whoever read the output has enough of it (`| head -1`): what is still buffered goes nowhere, without a complaint
    at the end of the program.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help() -> str:
    """The help of the whole command, as the commands render it on a wide terminal; a test compares the two."""
    path = f"{__file__.rpartition('/')[0]}/{NAME}"
    with open(path, encoding="utf-8") as file:  # noqa: PTH123  pathlib would double what this takes
        return file.read()


def _is_wide() -> bool:
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return int(given) >= COLUMNS
    try:
        return os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns >= COLUMNS
    except (OSError, ValueError):
        return True  # no terminal
