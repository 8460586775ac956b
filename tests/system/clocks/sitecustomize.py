"""Loaded by every interpreter that has this folder on its path: its clocks are off by what a file says, two doubles:
the seconds of the wall clock, and those of the clock of leases.
"""

import importlib.abc
import importlib.machinery
import mmap
import os
import sys
import time
from pathlib import Path

FILE = os.environ.get("CLOCK_FILE")
STORE = "heavylift.store"


class Finder(importlib.abc.MetaPathFinder):
    """Has the clock of leases read the file, too."""

    def __init__(self, cells):
        self.cells = cells

    def find_spec(self, name, path, target=None):
        if name != STORE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_and_patch(module):
            load(module)
            module.SystemClock.monotonic = lambda _: time.monotonic() + self.cells[1]

        spec.loader.exec_module = load_and_patch
        return spec


def shift(file):
    with Path(file).open("r+b") as opened:
        cells = memoryview(mmap.mmap(opened.fileno(), 16)).cast("d")
    wall = time.time
    time.time = lambda: wall() + cells[0]
    sys.meta_path.insert(0, Finder(cells))


if FILE:
    shift(FILE)
