"""The house rules, read from the source: imports point down, no cycles, a pure core, short files."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "heavylift"
ARCHITECTURE = ROOT / "docs" / "architecture.md"

FILE_LINES = 450
FUNCTION_LINES = 60
ARCHITECTURE_LINES = 150
FLOW_FILES = 9

CONTRACTS = "context executor reporter settings store"
ENGINE = (
    "bound_task client definition demand housekeeping journal origin outlook questions reports reservations submission"
    " sync tail worker"
)
ADAPTERS = "executors stores"
EDGES = "cli contrib http telemetry testing"

# A unit is a module or package directly under heavylift/; beside it stand the units that it may import.
MAY_IMPORT = {
    "core": "",
    "reporter": "core",
    "context": "core reporter",
    "executor": "core",
    "sources": "core",  # where settings come from
    "settings": "core sources",
    "store": "core",
    "logs": "core settings",  # what worker and web process write to standard error
    "executors": "core context executor reporter settings",
    "stores": "core settings store",
    "tail": f"core {CONTRACTS}",  # reads events for all who follow jobs
    "submission": f"core {CONTRACTS}",  # how submits become jobs
    "outlook": f"core {CONTRACTS}",  # what is to be expected of jobs
    "client": f"core {CONTRACTS} outlook submission tail",
    "bound_task": f"core {CONTRACTS} client submission sync",  # a task that submits itself
    "origin": "core executor",  # where other processes find an application
    "definition": f"core {CONTRACTS} bound_task",  # defines a task without a decorator
    "demand": f"core {CONTRACTS}",  # where a worker asks for jobs
    "journal": f"core {CONTRACTS} reports",  # what a worker says and counts of its jobs
    "reports": f"core {CONTRACTS}",  # what running code reports, and a worker keeps of it
    "questions": f"core {CONTRACTS}",  # where running code is
    "reservations": f"core {CONTRACTS}",  # what running code waits for
    "housekeeping": f"core {CONTRACTS} journal",
    "sync": f"core {CONTRACTS} client outlook submission",
    "worker": f"core {CONTRACTS} demand housekeeping journal questions reports reservations",
    "process": f"core {CONTRACTS} {ENGINE} {ADAPTERS} logs",  # the worker's process
    "monolith": f"core {CONTRACTS} process",  # starts it beside a web process
    "app": f"core {CONTRACTS} {ENGINE} {ADAPTERS} monolith process",
    "cli": f"core {CONTRACTS} {ENGINE} sources logs app http",
    "contrib": f"core {CONTRACTS} {ENGINE} app",
    "http": f"core {CONTRACTS} {ENGINE} app",
    "telemetry": f"core {CONTRACTS} {ENGINE} app",
    "testing": f"core {CONTRACTS} {ENGINE} app executors",  # runs tasks inline, and wraps hosts to kill them
    "__main__": "cli",
    "": f"core {CONTRACTS} bound_task client app",  # heavylift/__init__.py: the public names
}

# These may be imported inside functions only: who never asks for the part does not pay for it.
MAY_IMPORT_LAZILY = {"app": "http", "http": "telemetry", "process": "telemetry"}

# The choices behind the two contracts. `app` and `process` name them; the front of each folder, its __init__,
# may do so when it is asked for one; nobody else does, save a choice's own files.
IMPLEMENTATIONS = (
    *("heavylift.stores.sqlite", "heavylift.stores.postgres", "heavylift.stores.redis"),
    *("heavylift.executors.pools", "heavylift.executors.command", "heavylift.executors.inline"),
)

# Every new host pays for what these import, and for what that imports in turn.
STARTED_OFTEN = ("heavylift.executors", "heavylift.executors.host", "heavylift.executors.nanny")
CHEAP_UNITS = ("core", "context", "reporter")

CORE_PACKAGES = {*sys.stdlib_module_names, "annotated_types", "pydantic", "pydantic_core"}
IMPURE_MODULES = {
    *("asyncio", "concurrent", "multiprocessing", "os", "secrets", "select", "selectors", "shutil", "signal"),
    *("socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time"),
}
IMPURE_BUILTINS = ("input", "open", "print")
IMPURE_CALLS = (
    *("date.today", "datetime.now", "datetime.today", "datetime.utcnow", "uuid1", "uuid4"),
    *("random.choice", "random.randint", "random.random", "random.uniform"),
)


# --- reading the source ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Module:
    """One source file under its dotted name."""

    name: str
    source: str
    is_package: bool = False

    @property
    def unit(self) -> str:
        return unit_of(self.name)

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)


@dataclass(frozen=True, slots=True)
class Import:
    """One module that another imports: lazily, inside a function, or for the type checker alone."""

    target: str
    line: int
    lazy: bool
    for_types: bool


def unit_of(name: str) -> str:
    """`stores` of heavylift.stores.sqlite, nothing of heavylift itself."""
    return name.split(".")[1] if "." in name else ""


def read_package() -> dict[str, Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = Module(name, path.read_text(encoding="utf-8"), is_package)
    return found


def imports(module: Module, known: Iterable[str]) -> Iterator[Import]:
    """Every import of a module, `import_module("…")` included."""
    known = {*known, *(f"heavylift.{unit}" for unit in MAY_IMPORT if unit)}
    for node, lazy, for_types in walk(module.tree):
        match node:
            case ast.Import(names=names):
                targets = [alias.name for alias in names]
            case ast.ImportFrom(names=names):
                origin = origin_of(node, module)
                inner = [f"{origin}.{alias.name}" for alias in names]
                targets = [name if name in known else origin for name in inner]
            case ast.Call(func=function, args=[ast.Constant(value=str(target)), *_]) if is_import(function):
                targets = [target]
            case _:
                continue
        for target in dict.fromkeys(targets):
            yield Import(target, node.lineno, lazy, for_types)


def walk(node: ast.AST, *, lazy: bool = False, for_types: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    """Every node, and whether it stands inside a function or under `if TYPE_CHECKING:`."""
    yield node, lazy, for_types
    lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    guarded = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in dotted(node.test) else []
    for child in ast.iter_child_nodes(node):
        yield from walk(child, lazy=lazy, for_types=for_types or child in guarded)


def origin_of(node: ast.ImportFrom, module: Module) -> str:
    """The absolute name behind `from …`."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    base = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*base, node.module] if node.module else base)


def is_import(function: ast.AST) -> bool:
    return dotted(function).split(".")[-1] in ("import_module", "__import__")


def dotted(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
        case _:
            return "?"


# --- the rules: each returns one sentence for every violation -------------------------------------


def wrong_directions(modules: Mapping[str, Module]) -> list[str]:
    """Imports point down; those for types alone count, since they couple as much."""
    errors = []
    for module in modules.values():
        if module.unit not in MAY_IMPORT:
            errors.append(f"{module.name} is in no layer: give it one in tests/test_architecture.py.")
            continue
        errors += [
            f"{module.name}, line {found.line}, may not import {found.target}: {reason}."
            for found in imports(module, modules)
            if (reason := why_not(module, found))
        ]
    return errors


def why_not(module: Module, found: Import) -> str | None:
    """The reason against one import, or None if it is allowed."""
    unit, target = module.unit, unit_of(found.target)
    if found.target.split(".")[0] != "heavylift":
        foreign = unit == "core" and found.target.split(".")[0] not in CORE_PACKAGES
        return "core knows the standard library and pydantic only" if foreign else None
    if target == unit:
        return why_not_beside(module.name, found)
    if target in MAY_IMPORT[unit].split():
        return None
    if target in MAY_IMPORT_LAZILY.get(unit, "").split():
        return None if found.lazy else f"{unit} imports {target} inside a function, when it is asked for"
    return why_not_unit(unit, target)


def why_not_beside(name: str, found: Import) -> str | None:
    """Modules of one unit are free to import each other, implementations excepted."""
    owner = implementation_of(found.target)
    if owner in (None, implementation_of(name)):
        return None
    if name.count(".") > 1:
        return "only app and process name an implementation"
    on_demand = found.lazy or found.for_types
    return None if on_demand else f"{name} imports it inside a function, for those who ask for it"


def implementation_of(name: str) -> str | None:
    return next((known for known in IMPLEMENTATIONS if f"{name}.".startswith(f"{known}.")), None)


def why_not_unit(unit: str, target: str) -> str:
    if target in EDGES.split():
        return "nobody imports an edge"
    if unit == "core":
        return "core knows the standard library and pydantic only"
    if target == "":
        return "the root package holds the names for users and imports what is below it"
    adapters, engine = ADAPTERS.split(), ENGINE.split()
    if (unit in adapters and target in adapters + engine) or (unit in engine and target in adapters):
        return "engine and adapters know only the contract between them"
    if target in adapters:
        return "only app and process name an implementation"
    if target in ("monolith", "process"):
        return "only app starts the worker's process"
    return f"{unit or 'the root package'} knows only {', '.join(MAY_IMPORT[unit].split())}"


def expensive_hosts(modules: Mapping[str, Module]) -> list[str]:
    """Whatever the nanny and a host import, directly or not, stays within core and context."""
    errors = []
    waiting, seen = [name for name in STARTED_OFTEN if name in modules], set(STARTED_OFTEN)
    while waiting:
        name = waiting.pop(0)
        for found in imports(modules[name], modules):
            target = found.target
            if target.split(".")[0] != "heavylift" or unit_of(target) in CHEAP_UNITS or target in seen:
                continue
            if name == "heavylift.executors" and (found.lazy or found.for_types):
                continue  # the front of the folder runs for a host too, but nobody there asks it for anything
            if unit_of(target) == "executors" and target in modules and not implementation_of(target):
                seen.add(target)
                waiting.append(target)
                continue
            errors.append(
                f"{name}, line {found.line}, may not import {target}: "
                "every new host pays for it, so hosts know core and context alone."
            )
    return errors


def import_cycles(modules: Mapping[str, Module]) -> list[str]:
    """No module needs itself: the groups that reach each other by imports made when they are loaded."""
    graph = {
        name: {found.target for found in imports(module, modules) if not found.lazy and not found.for_types}
        for name, module in modules.items()
    }
    reach = {name: reachable(name, graph) for name in graph}
    groups = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in graph}
    return [f"{' and '.join(group)} import each other." for group in sorted(groups) if len(group) > 1]


def reachable(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        new = {name for name in graph[waiting.pop()] if name in graph} - seen
        seen |= new
        waiting += new
    return seen


def impurities(modules: Mapping[str, Module]) -> list[str]:
    """The core has no I/O, clock, chance, threads or await: what it needs is passed to it."""
    return [
        f"{module.name}, line {line}, is not pure: it {reason}."
        for module in modules.values()
        if module.unit == "core"
        for line, reason in impurities_of(module, modules)
    ]


def impurities_of(module: Module, known: Iterable[str]) -> Iterator[tuple[int, str]]:
    for found in imports(module, known):
        if found.target.split(".")[0] in IMPURE_MODULES:
            yield found.line, f"imports {found.target}"
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=function) if is_impure(dotted(function)):
                yield node.lineno, f"calls {dotted(function)}"
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield node.lineno, "awaits"


def is_impure(call: str) -> bool:
    return call in IMPURE_BUILTINS or any(f".{call}".endswith(f".{name}") for name in IMPURE_CALLS)


def too_long(modules: Mapping[str, Module]) -> list[str]:
    """Every file and every function can be read in one go."""
    errors = []
    for module in modules.values():
        lines = len(module.source.splitlines())
        if lines > FILE_LINES:
            errors.append(f"{module.name} has {lines} lines, more than {FILE_LINES}.")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    errors.append(f"{module.name}.{node.name} has {lines} lines, more than {FUNCTION_LINES}.")
    return errors


def flow_errors(text: str, exists: Iterable[str]) -> list[str]:
    """The page on the architecture is short, and its flow leads through a few files that are there."""
    errors = []
    if (lines := len(text.splitlines())) > ARCHITECTURE_LINES:
        errors.append(f"docs/architecture.md has {lines} lines, more than {ARCHITECTURE_LINES}.")
    section = re.search(r"^(#+) The flow$(.*?)(?=^#{1,2} |\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None:
        return [*errors, "docs/architecture.md has no section «The flow»."]
    found = re.findall(r"(?:src/heavylift/)?([\w/]+\.(?:py|lua))\b", section[2])
    files = list(dict.fromkeys(found))
    if not files:
        errors.append("«The flow» names no files.")
    if len(files) > FLOW_FILES:
        errors.append(f"«The flow» names {len(files)} files, more than {FLOW_FILES}.")
    errors += [f"«The flow» names {name}, which is not there." for name in files if name not in set(exists)]
    return errors


# --- the package keeps them -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def package() -> dict[str, Module]:
    found = read_package()
    assert "heavylift.core" in found, f"no package was found in {PACKAGE}"
    return found


RULES = (wrong_directions, expensive_hosts, import_cycles, impurities, too_long)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule, package):
    errors = rule(package)
    assert not errors, "\n" + "\n".join(errors)


def test_the_layers_themselves_have_no_cycle():
    layers = {unit: set(below.split()) for unit, below in MAY_IMPORT.items()}
    assert set().union(*layers.values()) <= set(layers)
    TopologicalSorter(layers).prepare()


def test_all_lists_exactly_the_visible_names():
    import heavylift

    visible = {name for name in dir(heavylift) if not name.startswith("_") and not is_incidental(heavylift, name)}
    assert sorted(heavylift.__all__) == sorted(visible)


def is_incidental(module: ModuleType, name: str) -> bool:
    """A submodule becomes an attribute when it is imported, and so does `annotations` of __future__."""
    value = getattr(module, name)
    return isinstance(value, ModuleType) or type(value).__module__ == "__future__"


def test_the_architecture_page_is_short_and_its_flow_leads_through_few_files():
    assert ARCHITECTURE.is_file(), "docs/architecture.md is missing"
    files = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.is_file()]
    errors = flow_errors(ARCHITECTURE.read_text(encoding="utf-8"), files)
    assert not errors, "\n" + "\n".join(errors)


# --- and the rules see what is planted ------------------------------------------------------------


def plant(sources: Mapping[str, str]) -> dict[str, Module]:
    """Modules for a test of the rules; the folders are packages."""
    packages = {name.rpartition(".")[0] for name in sources} | {"heavylift.executors", "heavylift.stores"}
    return {name: Module(name, source, name in packages) for name, source in sources.items()}


EDGE = "nobody imports an edge"
PURE = "core knows the standard library and pydantic only"
NAMED = "only app and process name an implementation"
APART = "engine and adapters know only the contract between them"

TYPES = "if TYPE_CHECKING:\n "
CALLED = "def f():\n "

WRONG = {
    "worker names a store": ("worker", "from heavylift.stores.sqlite import S", "stores.sqlite", APART),
    "worker names a store, relatively": ("worker", "from .stores import sqlite", "stores", APART),
    "worker names the pool, lazily": ("worker", f"{CALLED}import heavylift.executors", "executors", APART),
    "core imports the root": ("core.job", "import heavylift", "", PURE),
    "core imports a contract": ("core.job", "from heavylift import store", "store", PURE),
    "core imports upward for types": ("core.job", f"{TYPES}from ..store import Store", "store", PURE),
    "client imports the command line": ("client", "from heavylift.cli import main", "cli", EDGE),
    "client imports it by name": ("client", "importlib.import_module('heavylift.cli')", "cli", EDGE),
    "host imports http": ("executors.host", "from heavylift.http.api import routes", "http.api", EDGE),
    "an edge imports an edge": ("http.api", "from heavylift import cli", "cli", EDGE),
    "an edge names a store": ("cli.jobs", "from heavylift.stores import sqlite", "stores", NAMED),
    "a store imports the engine": ("stores.sqlite", "from heavylift.client import C", "client", APART),
    "a store imports an executor": ("stores.sqlite", "from heavylift.executors import p", "executors", APART),
    "a store imports a store": ("stores.sqlite", "import heavylift.stores.redis", "stores.redis", NAMED),
    "stores/__init__ imports one at once": (
        "stores",
        "from .sqlite import S",
        "stores.sqlite",
        "heavylift.stores imports it inside a",
    ),
    "client imports worker": ("client", "import heavylift.worker", "worker", "client knows only core, "),
    "client imports app": ("client", "from heavylift import app", "app", "client knows only core, "),
    "a contract imports a contract": ("store", "import heavylift.settings", "settings", "store knows only"),
    "process imports app": ("process", "import heavylift.app", "app", "process knows only core, "),
    "cli imports process": ("cli", "import heavylift.process", "process", "only app starts the worker's"),
    "testing imports the root": ("testing", "from heavylift import Job", "", "the root package holds"),
    "app imports http at once": ("app", "import heavylift.http", "http", "app imports http inside a"),
    "app imports http for types": ("app", f"{TYPES}import heavylift.http", "http", "app imports http"),
}


@pytest.mark.parametrize(("name", "source", "target", "reason"), WRONG.values(), ids=WRONG)
def test_an_upward_import_is_named_with_its_reason(name, source, target, reason):
    line = len(source.splitlines())
    name, target = f"heavylift.{name}", f"heavylift.{target}".rstrip(".")
    (error,) = wrong_directions(plant({name: source}))
    assert error.startswith(f"{name}, line {line}, may not import {target}: {reason}")
    assert error.endswith(".")


def test_core_may_not_import_another_library():
    source = "import re\nimport pydantic_core\nimport psutil"
    (error,) = wrong_directions(plant({"heavylift.core.job": source}))
    assert error == f"heavylift.core.job, line 3, may not import psutil: {PURE}."


def test_a_new_unit_has_to_be_given_a_layer():
    (error,) = wrong_directions(plant({"heavylift.utils": ""}))
    assert error == "heavylift.utils is in no layer: give it one in tests/test_architecture.py."


RIGHT = {
    "app names implementations": ("app", "from heavylift.stores.sqlite import SqliteStore"),
    "process names implementations": ("process", "from heavylift.executors.pool import Pool"),
    "app imports http when asked": ("app", "def router(self):\n from heavylift.http import api"),
    "cli starts http": ("cli.serve", "from heavylift.http import server"),
    "a store is a package": ("stores.redis.claims", "from heavylift.stores.redis import scripts"),
    "stores/__init__ imports one when asked": ("stores", f"{CALLED}from .sqlite import S"),
    "stores share a helper": ("stores.sqlite", "from heavylift.stores.sql import statements"),
    "core imports itself and pydantic": ("core.task", "import pydantic\nfrom . import job"),
    "others import libraries": ("worker", "import structlog"),
}


@pytest.mark.parametrize(("name", "source"), RIGHT.values(), ids=RIGHT)
def test_a_downward_import_is_allowed(name, source):
    assert wrong_directions(plant({f"heavylift.{name}": source})) == []


def test_a_host_is_charged_for_what_its_helpers_import():
    modules = plant(
        {
            "heavylift.executors": "",
            "heavylift.executors.nanny": "from heavylift.executors import host",
            "heavylift.executors.host": "from heavylift import context\nfrom . import frames",
            "heavylift.executors.frames": "from heavylift.core import codec\nimport heavylift.executor",
            "heavylift.executors.pool": "from heavylift.executor import Executor",
        }
    )
    (error,) = expensive_hosts(modules)
    assert error == (
        "heavylift.executors.frames, line 2, may not import heavylift.executor: "
        "every new host pays for it, so hosts know core and context alone."
    )


@pytest.mark.parametrize("name", STARTED_OFTEN)
@pytest.mark.parametrize("target", ["", ".http", ".settings", ".executors.pools"])
def test_a_host_imports_core_and_context_alone(name, target):
    modules = plant({"heavylift.executors.pools": "", name: f"import heavylift{target}"})
    (error,) = expensive_hosts(modules)
    assert error.startswith(f"{name}, line 1, may not import heavylift{target}: every new host pays for it")


def test_a_cycle_is_named_with_its_modules():
    modules = plant(
        {
            "heavylift.core.a": "from heavylift.core import b",
            "heavylift.core.b": "class B:\n from heavylift.core.c import C",
            "heavylift.core.c": "from .a import A",
            "heavylift.core.d": "import heavylift.core.a",
        }
    )
    assert import_cycles(modules) == ["heavylift.core.a and heavylift.core.b and heavylift.core.c import each other."]


@pytest.mark.parametrize("source", [f"{CALLED}import heavylift.core.a", f"{TYPES}from . import a"])
def test_what_is_not_imported_when_a_module_is_loaded_makes_no_cycle(source):
    modules = plant({"heavylift.core.a": "import heavylift.core.b", "heavylift.core.b": source})
    assert import_cycles(modules) == []


IMPURE = {
    "import time": "imports time",
    "from os import urandom": "imports os",
    "def f():\n import threading": "imports threading",
    "datetime.datetime.now()": "calls datetime.datetime.now",
    "jitter = random.random()": "calls random.random",
    "open('x')": "calls open",
    "async def f(): ...": "awaits",
}


@pytest.mark.parametrize(("source", "reason"), IMPURE.items(), ids=IMPURE.values())
def test_an_impure_core_is_named_with_its_reason(source, reason):
    (error,) = impurities(plant({"heavylift.core.job": source, "heavylift.worker": source}))
    assert error == f"heavylift.core.job, line {len(source.splitlines())}, is not pure: it {reason}."


def test_a_pure_core_may_look_at_times_and_be_given_chance():
    source = "import datetime\ndef f(now, random): return store.open(now.date(), random(), reopen())"
    assert impurities(plant({"heavylift.core.job": source})) == []


def test_a_long_file_and_a_long_function_are_counted():
    body = "def f():\n" + " pass\n" * FUNCTION_LINES
    assert too_long(plant({"heavylift.worker": body})) == ["heavylift.worker.f has 61 lines, more than 60."]
    assert too_long(plant({"heavylift.worker": body.replace(" pass\n", "", 1)})) == []
    assert too_long(plant({"heavylift.worker": "x = 1\n" * 451})) == ["heavylift.worker has 451 lines, more than 450."]
    assert too_long(plant({"heavylift.worker": "x = 1\n" * 450})) == []


FLOW = "# Architecture\n\n## The flow\n\n"
PAGES = {
    "good": (
        FLOW + "`src/heavylift/client.py`, then `core/job.py`, client.py again\n\n## More\n\ngone.py",
        [],
    ),
    "missing": (FLOW + "`gone.py`", ["«The flow» names gone.py, which is not there."]),
    "empty": (FLOW + "nothing", ["«The flow» names no files."]),
    "no flow": ("# Architecture", ["docs/architecture.md has no section «The flow»."]),
    "long": ("\n" * 150 + "## The flow\nclient.py", ["docs/architecture.md has 152 lines, more than 150."]),
}


@pytest.mark.parametrize(("text", "errors"), PAGES.values(), ids=PAGES)
def test_the_architecture_page_is_read_strictly(text, errors):
    assert flow_errors(text, ["client.py", "core/job.py"]) == errors


def test_a_flow_through_too_many_files_is_refused():
    files = [f"f{number}.py" for number in range(10)]
    assert flow_errors(FLOW + " ".join(files), files) == ["«The flow» names 10 files, more than 9."]
