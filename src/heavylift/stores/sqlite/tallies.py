"""Counts: what workers add up for whoever exports metrics."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from heavylift.core.tally import Key
from heavylift.stores.sqlite import rows
from heavylift.stores.sqlite.transaction import Transaction

ADD = "INSERT INTO tally(key, amount) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET amount = amount + excluded.amount"


def count(transaction: Transaction, added: Mapping[Key, float]) -> None:
    """Add to the counts."""
    transaction.connection.executemany(ADD, [(rows.text_of(list(key)), amount) for key, amount in added.items()])


def counts(connection: sqlite3.Connection) -> dict[Key, float]:
    """All counts."""
    return {tuple(json.loads(key)): amount for key, amount in connection.execute("SELECT key, amount FROM tally")}
