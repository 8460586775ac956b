"""The `heavylift` command: parse, call the client, print."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with one of the documented exit codes."""
    import sys

    from heavylift.cli import quick

    code = quick.answered(sys.argv[1:])
    if code is None:
        code = _run()
    sys.exit(code)


def _run() -> int:
    from heavylift import logs

    logs.hold_standard_descriptors()
    from heavylift.cli.commands import app
    from heavylift.cli.exits import failed
    from heavylift.core.errors import HeavyliftError

    try:
        app(prog_name="heavylift")
    except HeavyliftError as error:
        return failed(error)
    return 0
