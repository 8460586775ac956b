"""What holds for every command that typer runs."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from heavylift.cli.exits import Exit
from heavylift.cli.quick import nobody_reads


class Commands(TyperGroup):
    """The commands, which end well when nobody reads their output any more (`| head -1`)."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            nobody_reads()
            raise typer.Exit(Exit.OK) from None
