"""Counts: what workers add up for whoever exports metrics."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence

from heavylift.core.tally import MOST_NAMES, OTHER, Key
from heavylift.stores.sqlite import rows
from heavylift.stores.sqlite.transaction import Transaction

ADD = "INSERT INTO tally(key, amount) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET amount = amount + excluded.amount"

FINISHED = """SELECT key FROM tally WHERE key >= '["finished",' AND key < '["finished-'"""


def count(transaction: Transaction, added: Mapping[Key, float]) -> None:
    """Add to the counts."""
    transaction.connection.executemany(ADD, [(rows.text_of(list(key)), amount) for key, amount in added.items()])


def finished(transaction: Transaction, ended: Sequence[tuple[str, str]]) -> None:
    """Count jobs that are over, by their task and state; of very many tasks some under one name, as workers do."""
    known = {json.loads(key)[1] for (key,) in transaction.connection.execute(FINISHED).fetchall()}
    added: Counter[Key] = Counter()
    for task, state in ended:
        name = task if task in known or len(known) < MOST_NAMES else OTHER
        known.add(name)
        added["finished", name, state] += 1
    count(transaction, added)


def counts(connection: sqlite3.Connection) -> dict[Key, float]:
    """All counts."""
    return {tuple(json.loads(key)): amount for key, amount in connection.execute("SELECT key, amount FROM tally")}
