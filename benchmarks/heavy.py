"""An application whose import takes 60 MiB: libraries as far as they are installed, then generated modules."""

from __future__ import annotations

import contextlib
import importlib
import marshal
import os
import types
from pathlib import Path

GOAL = 60 * 2**20
LIBRARIES = ("numpy", "sqlalchemy", "fastapi", "httpx2", "rich", "typer")
FUNCTIONS = 200
FUNCTION = '''
def function_{0}(first, second={0}, *rest, name="function_{0}", **others):
    """What function {0} does, in a sentence or two, as libraries have them."""
    table = {{"first": first, "second": second, "number {0}": [first, second, rest]}}
    return [key + name for key in table if key not in others and first != {0}.5]

class Class{0}:
    """A class with two methods and a constant."""
    limit = {0} * 1000
    def method_{0}(self, argument):
        return self.limit + argument + {0}
    @property
    def property_{0}(self):
        return function_{0}(self.limit, self.limit - {0})
'''


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grow(before: int) -> tuple[list[str], list[types.ModuleType]]:
    """Import what there is, and generate the rest; what was imported, and what was generated."""
    imported = []
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
            imported.append(name)
    source = "".join(FUNCTION.format(number) for number in range(FUNCTIONS))
    code = marshal.dumps(compile(source, "generated", "exec"))
    generated: list[types.ModuleType] = []
    while resident() - before < GOAL:
        module = types.ModuleType(f"generated_{len(generated)}")
        # As an import does it: the code objects come from marshalled bytes, so every module has its own.
        exec(marshal.loads(code), module.__dict__)
        generated.append(module)
    return imported, generated


_before = resident()
_imported, _generated = grow(_before)
_grown = (resident() - _before) / 2**20

from benchmarks.application import lift  # noqa: E402  its import is not counted


@lift.task
def imported() -> str:
    """What was imported, and how much the process grew by it."""
    return f"{_grown:.0f} MiB of {', '.join(_imported)} and {len(_generated)} generated modules"
