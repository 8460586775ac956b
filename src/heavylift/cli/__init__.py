"""The `heavylift` command: parse, call the client, print."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with one of the documented exit codes."""
    import sys

    from heavylift.cli.commands import app
    from heavylift.cli.exits import failed
    from heavylift.core.errors import HeavyliftError

    try:
        app(prog_name="heavylift")
    except HeavyliftError as error:
        sys.exit(failed(error))
