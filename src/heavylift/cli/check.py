"""`check`: what an application has, and what is wrong with it, before anything is served."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from heavylift.cli import find, output
from heavylift.cli.exits import Exit, complain
from heavylift.cli.machine import amount
from heavylift.core.errors import ConfigError, shown
from heavylift.core.limits import Concurrency, Rate
from heavylift.core.options import FollowUp, to_data
from heavylift.core.retention import Retention
from heavylift.core.units import spoken
from heavylift.http import render

if TYPE_CHECKING:
    from heavylift.app import Heavylift
    from heavylift.core.options import Options
    from heavylift.core.task import Task

NEXT = (
    "A signature can have numbers, text, booleans, lists, dicts, dates, enums, dataclasses and pydantic models; of what"
    " is larger, submit where it is.\n"
)
DURATIONS = ("delay", "grace", "unique_for", "debounce", "expires", "cpu_time")
SIZES = ("memory", "address_space")
RESULT = "return"
"""The name under which the result stands among the faults of a signature."""


def check(name: str, *, as_json: bool) -> Exit:
    """Import the application as its worker would, and print its tasks; wrong ones are named on stderr."""
    lift = find.application(name)
    wrong, unusable = _modules_at_fault(lift), 0
    if not as_json:
        _print_application(name, lift)
    for task in sorted(lift.registry.values(), key=lambda task: task.name):
        faults = _faults(task)
        unusable += bool(faults)
        wrong += [f"Task {task.name!r} ({_where(task)}): {fault}" for fault in faults]
        if as_json:
            output.data(_as_json(task, faults))
        else:
            _print_task(task, usable=not faults)
    if not lift.registry:
        wrong.append(
            "The application has no tasks: decorate functions with @lift.task, and name the modules that do so:"
            " Heavylift(imports=[…])."
        )
    sys.stdout.flush()
    for text in wrong:
        complain(text)
    if unusable:
        sys.stderr.write(NEXT)
    return Exit.USAGE if wrong else Exit.OK


def _modules_at_fault(lift: Heavylift) -> list[str]:
    """What is wrong with the modules of `imports`, which are imported here, and with the way that workers find it."""
    wrong = []
    for name in lift.imports:
        try:
            find.imported(name)
        except ConfigError as error:
            wrong.append(str(error))
    try:
        lift.origin()
    except ConfigError as error:
        wrong.append(str(error))
    return wrong


def _faults(task: Task) -> list[str]:
    try:
        faults = task.faults()
    except ConfigError as error:
        return [str(error).removeprefix(f"Task {task.name!r}: ")]
    return [
        f"its result cannot be written as JSON: {reason}"
        if name == RESULT
        else f"its argument {name!r} cannot be read from JSON: {reason}"
        for name, reason in faults.items()
    ]


def _where(task: Task) -> str:
    code = getattr(inspect.unwrap(task.function), "__code__", None)
    if code is None:
        return str(getattr(task.function, "__module__", "built in"))
    path = Path(code.co_filename)
    shortened = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shortened}:{code.co_firstlineno}"


def _print_application(name: str, lift: Heavylift) -> None:
    out = output.console()
    module = sys.modules[name.partition(":")[0]]
    out.print(f"[bold]{output.safe(name)}[/]\n")
    for head, text in (("file", module.__file__ or "none"), ("store", lift.store_url)):
        out.print(f"  [dim]{head:<6}[/]{output.safe(text)}")


def _print_task(task: Task, *, usable: bool) -> None:
    out = output.console()
    style = "bold" if usable else "bold red"
    out.print(f"\n[{style}]{output.safe(task.name)}[/]{output.safe(_signature(task))}")
    if task.description:
        out.print(f"  {output.safe(task.description.partition(chr(10))[0])}")
    out.print(f"  [dim]{output.safe(_options(task.options))}[/]")


def _signature(task: Task) -> str:
    """The arguments and the result, as they are written."""
    try:
        parameters = task.parameters
    except ConfigError:
        return "(…)"
    parts = []
    for name, parameter in parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = "" if parameter.default is parameter.empty else f" = {shown(parameter.default)}"
        parts.append(name + _typed(": ", parameter.annotation) + default)
    return f"({', '.join(parts)}){_typed(' -> ', task.hints.get(RESULT, Any))}"


def _typed(before: str, annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation is Any:
        return ""
    return before + ("None" if annotation is type(None) else inspect.formatannotation(annotation))


def _options(options: Options) -> str:
    """How its jobs run unless they say otherwise: what every task has, then what this one was given."""
    timeout = "no timeout" if options.timeout is None else f"timeout {spoken(options.timeout)}"
    parts = [f"queue {options.queue}", f"attempts {options.retry.attempts}", timeout]
    given = [name for name in to_data(options) if name not in ("queue", "retry", "timeout")]
    return ", ".join(parts + [f"{name} {_plain(name, getattr(options, name))}" for name in given])


def _plain(name: str, value: Any) -> str:
    """The value of an option, for people."""
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return " ".join(f"{key}={text}" for key, text in value.items())
        case tuple():
            return " and ".join(_plain(name, item) for item in value)
        case Concurrency(most, key):
            return f"{most} at a time of {key}"
        case Rate(rate, key):
            return f"{rate} of {key}"
        case FollowUp(str(text)) | str(text):
            return text
        case Retention(age, succeeded, failed):
            counts = [
                f"{count} {state}"
                for count, state in ((succeeded, "succeeded"), (failed, "failed"))
                if count is not None
            ]
            return spoken(age) + (f" ({', '.join(counts)})" if counts else "")
    if name in SIZES:
        return amount(value)
    return spoken(value) if name in DURATIONS else shown(value)


def _as_json(task: Task, faults: list[str]) -> dict[str, Any]:
    resource = {
        "name": task.name,
        "description": task.description,
        "arguments": None if faults else task.schema(),
        "result": None if faults else task.result_schema(),
        "options": render.task_options(task.options),
    }
    return resource | {"problems": faults}
