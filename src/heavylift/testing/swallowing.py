"""Ways to go on for ever where the exception of a stop may get lost; for the tasks of ExecutorContract."""

from __future__ import annotations

import ctypes
import importlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heavylift.context import Context


class _Slow:
    def __del__(self) -> None:
        for _ in range(2000):
            pass


def _in_finalizers(ctx: Context, path: Path) -> None:
    try:
        ctx.progress(message="begun")
        while True:
            _Slow()  # nearly all the time is spent where Python swallows exceptions
    finally:
        path.write_text("cleaned up")


def _work() -> None:
    for _ in range(2000):
        pass


def _in_callbacks(ctx: Context, path: Path) -> None:
    called_by_c = ctypes.CFUNCTYPE(None)(_work)
    try:
        ctx.progress(message="begun")
        while True:
            called_by_c()  # C has no use for an exception: Python reports it, and goes on
    finally:
        path.write_text("cleaned up")


def _beside_a_thread(ctx: Context, path: Path) -> None:
    other = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
    other.start()
    try:
        ctx.progress(message="begun")
        other.join()
    finally:
        path.write_text("cleaned up")


def _in_an_import(ctx: Context, path: Path) -> None:
    (path.parent / "endless_module.py").write_text("while True:\n    pass\n")
    sys.path.insert(0, str(path.parent))
    try:
        ctx.progress(message="begun")
        importlib.import_module("endless_module")
    finally:
        path.write_text("cleaned up")


LOOPS: dict[str, Callable[[Context, Path], Any]] = {
    "swallow": _in_finalizers,
    "callback": _in_callbacks,
    "thread": _beside_a_thread,
    "import": _in_an_import,
}
