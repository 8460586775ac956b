"""Questions about running jobs: kept until their time is over, answered or not. No job is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from heavylift.store import Question
from heavylift.stores.sqlite.transaction import Transaction

RUNNING = "SELECT number, worker FROM job WHERE id = ? AND attempt = ? AND state = 3"
SAME = "SELECT id FROM question WHERE job = ? AND attempt = ? AND answer IS NULL AND expires_at > ?"
PROLONG = "UPDATE question SET expires_at = max(expires_at, ?) WHERE id = ?"
OPEN = "SELECT id, job, attempt FROM question WHERE answer IS NULL AND expires_at > ?"
HELD = "SELECT id FROM job WHERE number = ? AND attempt = ? AND state = 3 AND worker = ? AND epoch = ?"


def ask(transaction: Transaction, question: Question, lasts: float) -> str | None:
    """Keep a question; the id under which its answer will be found, None when that attempt does not run."""
    connection, now = transaction.connection, transaction.now
    forget(connection, now)
    running = connection.execute(RUNNING, (question.job, question.attempt)).fetchone()
    if running is None:
        return None
    number, worker = running
    transaction.hinted.add(worker)
    same = connection.execute(SAME, (number, question.attempt, now)).fetchone()
    if same is not None:
        found: str = same[0]
        connection.execute(PROLONG, (now + lasts, found))
        return found
    values = (question.id, number, question.attempt, now + lasts)
    connection.execute("INSERT INTO question(id, job, attempt, expires_at) VALUES (?, ?, ?, ?)", values)
    return question.id


def open_ones(transaction: Transaction, worker: str, epoch: int) -> tuple[Question, ...]:
    """What is asked of a worker."""
    connection, found = transaction.connection, list[Question]()
    for name, number, attempt in connection.execute(OPEN, (transaction.now,)).fetchall():
        job = connection.execute(HELD, (number, attempt, worker, epoch)).fetchone()
        if job is not None:
            found.append(Question(name, job[0], attempt))
    return tuple(found)


def answer(transaction: Transaction, answers: Mapping[str, bytes]) -> None:
    """Keep answers as long as their questions."""
    for name, value in answers.items():
        transaction.connection.execute("UPDATE question SET answer = ? WHERE id = ?", (value, name))
    transaction.changed = True


def answered(connection: sqlite3.Connection, name: str, now: float) -> bytes | None:
    """An answer, if there is one."""
    row = connection.execute("SELECT answer FROM question WHERE id = ? AND expires_at > ?", (name, now)).fetchone()
    return None if row is None else row[0]


def forget(connection: sqlite3.Connection, now: float) -> None:
    """Remove those whose time is over."""
    connection.execute("DELETE FROM question WHERE expires_at <= ?", (now,))
