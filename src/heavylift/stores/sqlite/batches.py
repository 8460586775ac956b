"""One statement for many rows.

A statement for each row costs twice as much: the driver gives up the interpreter lock and takes it back at every step,
and SQLite begins and ends each statement. Numbers are bound, never written as JSON, which would round times.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

LARGEST = 128


def slices(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Parts whose sizes are powers of two, so that few different statements have to be prepared."""
    start, size = 0, LARGEST
    while start < len(items):
        while size > len(items) - start:
            size //= 2
        yield items[start : start + size]
        start += size


@lru_cache(maxsize=256)
def values_of(width: int, count: int) -> str:
    """`VALUES (?, …), …`."""
    row = f"({','.join('?' * width)})"
    return f"VALUES {','.join([row] * count)}"


def insert_many(
    connection: sqlite3.Connection, table: str, width: int, items: Sequence[Sequence[Any]], *, ignore: bool = False
) -> int:
    """Insert rows into `table(columns)`; how many were written (`ignore`: those that were there are left)."""
    verb = "INSERT OR IGNORE" if ignore else "INSERT"
    return sum(
        connection.execute(
            f"{verb} INTO {table} {values_of(width, len(part))}", tuple(chain.from_iterable(part))
        ).rowcount
        for part in slices(items)
    )


def update_many(
    connection: sqlite3.Connection, change: str, condition: str, width: int, items: Sequence[Sequence[Any]]
) -> int:
    """Update jobs from rows of values, which `change` and `condition` know as column1, column2 …; how many matched."""
    return sum(
        connection.execute(
            f"UPDATE job SET {change} FROM ({values_of(width, len(part))}) AS new WHERE {condition}",
            tuple(chain.from_iterable(part)),
        ).rowcount
        for part in slices(items)
    )
