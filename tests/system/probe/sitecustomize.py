"""Loaded by every interpreter that has this folder on its path: says in a one-byte file where a process is in its
writing, so that a test can kill it exactly there. 1: it has the turn; 2: committed, and nobody was woken yet.
"""

import importlib.abc
import importlib.machinery
import mmap
import os
import sys

FOLDER = os.environ.get("PHASES_FOLDER")


class Page:
    """This process's byte; made anew after a fork."""

    def __init__(self):
        self.pid = 0

    def write(self, phase):
        if self.pid != os.getpid():
            self.pid = os.getpid()
            file = os.open(f"{FOLDER}/phase-{self.pid}", os.O_RDWR | os.O_CREAT, 0o600)
            os.ftruncate(file, 1)
            self.memory = mmap.mmap(file, 1)
            os.close(file)
        self.memory[0] = phase


page = Page()


def watch_turns(module):
    take, take_now = module.Turn.take, module.Turn.take_now

    def watched_take(turn):
        take(turn)
        page.write(1)

    def watched_take_now(turn):
        taken = take_now(turn)
        if taken:
            page.write(1)
        return taken

    module.Turn.take, module.Turn.take_now = watched_take, watched_take_now


def watch_writer(module):
    transact, done = module.Writer._transact, module.Writer._done

    def watched_transact(writer, operations, *, careful):
        result = transact(writer, operations, careful=careful)
        page.write(2)
        return result

    def watched_done(writer, transaction):
        done(writer, transaction)
        page.write(0)

    module.Writer._transact, module.Writer._done = watched_transact, watched_done


PATCHES = {"heavylift.stores.sqlite.turns": watch_turns, "heavylift.stores.sqlite.writer": watch_writer}


class Finder(importlib.abc.MetaPathFinder):
    """Patches the modules above when they are loaded."""

    def find_spec(self, name, path, target=None):
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_and_patch(module):
            load(module)
            PATCHES[name](module)

        spec.loader.exec_module = load_and_patch
        return spec


if FOLDER:
    sys.meta_path.insert(0, Finder())
