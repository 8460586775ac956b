"""Save, and add the jobs that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from heavylift.core.errors import DuplicateJob
from heavylift.core.job import Change
from heavylift.stores.sqlite import adding, saving
from heavylift.stores.sqlite.rows import Held
from heavylift.stores.sqlite.transaction import Transaction


def save(
    transaction: Transaction, changes: Sequence[Change], held: dict[str, Held], mine: Mapping[str, Mapping[str, int]]
) -> list[int | DuplicateJob | None]:
    """Write changes as `saving.save`; of each that was written, the jobs of its `then` are added in the same write."""
    answers = saving.save(transaction, changes, held, mine)
    for change, answer in zip(changes, answers, strict=True):
        if change.then and type(answer) is int:
            adding.add(transaction, change.then, bounded=False)
    return answers
