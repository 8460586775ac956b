"""Command tasks: a program in the place of a function, started by its argv, never by a shell.

The program runs as a child of an exclusive host, so that it is stopped, timed, limited and cleaned up after as any job.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import re
import selectors
import signal
import string
import subprocess
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from heavylift.context import Context
from heavylift.core.errors import CommandFailed, ConfigError, GiveUp, did_you_mean
from heavylift.executors.processes import exit_meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

CHUNK = 64 * 1024
LONGEST_LINE = 8 * 1024
"""A longer line of the log goes on in the next one."""
ENDING = 0.02
"""Seconds between two looks whether a program that was asked to end has done so."""
KEPT = 8 * 1024
"""Characters of the end of the output that the result, or the failure, holds."""
PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
"""Why a program cannot be started now, and can be some time later."""
GROUPS = frozenset({"done", "total", "percent", "message", "phase"})


@dataclass(frozen=True)
class CommandResult:
    """How a command ended well. `output`: the end of what it wrote to its standard output, at most 8 KiB."""

    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class Command:
    """A program and how to deal with it.

    In `argv`, `{name}` stands for an argument; one that is a list stands alone in its element, and becomes many.
    `progress`, a regular expression, is searched for in every line: its groups are named as in GROUPS. An exit code
    of `ok_exit_codes` is a success; one of `give_up_exit_codes` is not retried.
    """

    argv: Sequence[str]
    progress: str | None = None
    ok_exit_codes: Collection[int] = (0,)
    give_up_exit_codes: Collection[int] = ()
    cwd: str | os.PathLike[str] | None = None
    env: Mapping[str, str] | None = None


def command_function(name: str, command: Command, args: Mapping[str, Any] | None) -> Callable[..., CommandResult]:
    """The function of a command task; `args` are the types of the arguments (default: texts).

    Raises ConfigError for an argv, a placeholder or a pattern that cannot work.
    """
    parts = _checked_argv(name, command.argv)
    pattern = _pattern(name, command.progress)
    found = list(dict.fromkeys(field for part in parts for field in _placeholders(name, part)))
    types = dict.fromkeys(found, str) if args is None else dict(args)
    for field in found:
        if field not in types:
            message = f"Command {name!r}: {{{field}}} stands for no argument.{did_you_mean(field, types)}"
            raise ConfigError(message)
    for field in types:
        if field not in found:
            message = f"Command {name!r}: its argument {field!r} is used nowhere in argv; write {{{field}}} there."
            raise ConfigError(message)

    def run(ctx: Context, **values: Any) -> CommandResult:
        return run_command(ctx, command, values, pattern)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"Run `{' '.join(parts)}`."
    run.__annotations__ = {"ctx": Context, **types, "return": CommandResult}
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("ctx", keyword, annotation=Context)]
    parameters += [inspect.Parameter(field, keyword, annotation=kind) for field, kind in types.items()]
    run.__signature__ = inspect.Signature(parameters, return_annotation=CommandResult)  # type: ignore[attr-defined]
    return run


def run_command(
    ctx: Context, command: Command, values: Mapping[str, Any], pattern: re.Pattern[str] | None
) -> CommandResult:
    """Run a command, its output as the job's log; raises CommandFailed, and GiveUp when there is no such program.

    A stop reaches it as SIGTERM to its process group; it may end in its own way within the grace, and is heard until
    then.
    """
    argv = [text for part in command.argv for text in _filled(part, values)]
    process = _started(command, argv)
    tails: dict[str, deque[str]] = {"stdout": deque(), "stderr": deque()}

    def hear(lines: Iterator[tuple[str, str]]) -> None:
        for stream, line in lines:
            _keep(tails[stream], line)
            if stream == "stdout":
                ctx.log.info("%s", line)
            else:
                ctx.log.warning("%s", line)
            if pattern is not None and (match := pattern.search(line)):
                _report(ctx, match)

    try:
        hear(_lines(process))
        process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        # While nobody reads what it says of its end, it may wait for ever to say more.
        hear(_lines(process, ending=True))
        process.wait()
        raise
    return _judged(command, argv[0], process.returncode, tails)


def _judged(command: Command, program: str, code: int, tails: Mapping[str, deque[str]]) -> CommandResult:
    if code in command.ok_exit_codes:
        return CommandResult(code, "\n".join(tails["stdout"]))
    _, name = exit_meaning(-code if code < 0 else code << 8)
    how = f"was killed by {name}" if name is not None else f"ended with exit code {code}"
    said = "\n".join(tails["stderr"] or tails["stdout"])
    message = f"{program} {how}" + (f":\n{said}" if said else ", and wrote nothing.")
    if code in command.give_up_exit_codes:
        raise GiveUp(message)
    raise CommandFailed(message, None if code < 0 else code, name)


def _started(command: Command, argv: list[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603  the very purpose; no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=command.cwd,
            env=None if command.env is None else {**os.environ, **command.env},
            process_group=0,
        )
    except FileNotFoundError:
        if command.cwd is not None and not Path(command.cwd).is_dir():
            message = f"The working directory {str(command.cwd)!r} of the command is not there."
        else:
            where = os.environ.get("PATH", "")
            message = f"The program {argv[0]!r} is not there; install it where the worker runs. (PATH is {where})"
        raise GiveUp(message) from None
    except (OSError, ValueError) as error:
        message = f"The program {argv[0]!r} cannot be started: {error}"
        if isinstance(error, OSError) and error.errno in PASSING:
            raise OSError(error.errno, message) from None
        raise GiveUp(message) from None


def _lines(process: subprocess.Popen[bytes], *, ending: bool = False) -> Iterator[tuple[str, str]]:
    """What it writes, line by line, as it comes: (stdout or stderr, text). A carriage return ends a line too.

    When it is `ending`, what others write there after its own end is not waited for.
    """
    rests: dict[IO[bytes], bytes] = {}
    with selectors.DefaultSelector() as selector:
        for name, opened in (("stdout", process.stdout), ("stderr", process.stderr)):
            if opened is not None and not opened.closed:
                selector.register(opened, selectors.EVENT_READ, (name, opened))
        while selector.get_map():
            over = ending and process.poll() is not None
            ready = selector.select(0 if over else ENDING if ending else None)
            if over and not ready:
                break
            for key, _ in ready:
                name, pipe = key.data
                data = os.read(pipe.fileno(), CHUNK)
                if not data:
                    selector.unregister(pipe)
                    pipe.close()
                pieces = re.split(rb"\r\n|\r|\n", rests.get(pipe, b"") + data)
                rests[pipe] = b"" if not data else pieces.pop()
                if len(rests[pipe]) > LONGEST_LINE:
                    pieces.append(rests.pop(pipe))
                for piece in pieces:
                    for at in range(0, len(piece), LONGEST_LINE):
                        yield name, piece[at : at + LONGEST_LINE].decode(errors="replace")


def _keep(tail: deque[str], line: str) -> None:
    tail.append(line)
    while sum(map(len, tail)) > KEPT and len(tail) > 1:
        tail.popleft()


def _report(ctx: Context, match: re.Match[str]) -> None:
    found = match.groupdict()
    done, total = _number(found.get("done")), _number(found.get("total"))
    percent = _number(found.get("percent"))
    if percent is not None:
        done, total = percent, 100.0
    ctx.progress(done, total, found.get("message"), phase=found.get("phase"))


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _filled(part: str, values: Mapping[str, Any]) -> list[str]:
    """An element of argv with its arguments in it: one text, or as many as a list has."""
    alone = re.fullmatch(r"\{([^{}]+)\}", part)
    if alone is not None and isinstance(values[alone[1]], list | tuple | set | frozenset):
        return [str(value) for value in values[alone[1]]]
    return [part.format_map(values)]


def _checked_argv(name: str, argv: Sequence[str]) -> list[str]:
    if isinstance(argv, str) or not argv or not all(isinstance(part, str) for part in argv):
        message = (
            f"Command {name!r}: {argv!r} is no argv; give a list of texts, such as ['convert', '{{src}}', '{{dst}}']."
            " (There is no shell: for one, give ['sh', '-c', …].)"
        )
        raise ConfigError(message)
    return list(argv)


def _placeholders(name: str, part: str) -> Iterator[str]:
    try:
        for _, field, spec, conversion in string.Formatter().parse(part):
            if field is None:
                continue
            if not field.isidentifier() or spec or conversion:
                message = f"Command {name!r}: {part!r}: a placeholder is a plain name, {{src}}; write a brace as {{{{."
                raise ConfigError(message)
            yield field
    except ValueError as error:
        message = f"Command {name!r}: {part!r}: {error}; write a brace as {{{{ or }}}}."
        raise ConfigError(message) from None


def _pattern(name: str, progress: str | None) -> re.Pattern[str] | None:
    if progress is None:
        return None
    try:
        pattern = re.compile(progress)
    except re.error as error:
        message = f"Command {name!r}: progress={progress!r} is no regular expression: {error}."
        raise ConfigError(message) from None
    if not pattern.groupindex or not pattern.groupindex.keys() <= GROUPS:
        message = (
            f"Command {name!r}: progress={progress!r} has no group that says how far it is;"
            r" name some of done, total, percent, message, phase, as in '(?P<percent>\d+)%'."
        )
        raise ConfigError(message)
    return pattern
