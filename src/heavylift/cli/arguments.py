"""What many commands take."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

AppName = Annotated[str, typer.Argument(metavar="APP", help="module:attribute of the Heavylift object.")]
OptionalApp = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(metavar="APP", help="Application, module:attribute. [default: HEAVYLIFT_APP, or a store alone]"),
]
AppOption = Annotated[
    Optional[str],  # noqa: UP045  typer reads it at run time
    typer.Option("--app", "-A", metavar="APP", help="Application, module:attribute (or HEAVYLIFT_APP)."),
]
StoreOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--store", metavar="URL", help="Where jobs live, such as sqlite:///jobs.db (or HEAVYLIFT_STORE)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, a unique part of it, or @last.")]
Text = Optional[str]  # noqa: UP045
"""Settings and job options are read by their own checks, which know "10m"."""
