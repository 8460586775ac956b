"""Where running code is, when somebody asks: the worker looks, and answers through the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from heavylift.core import stack as stack_of
from heavylift.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection

    from heavylift.executor import Executor
    from heavylift.store import Question, Store

log = logging.getLogger("heavylift.worker")


class Questions:
    """One worker's, which are answered beside everything else: a look may take seconds."""

    def __init__(self) -> None:
        self._new: asyncio.Queue[Question] = asyncio.Queue()
        self._open: set[Question] = set()

    def ask(self, questions: Collection[Question]) -> None:
        """What a beat brought: also those that it brought before, until they are answered."""
        for question in set(questions) - self._open:
            self._open.add(question)
            self._new.put_nowait(question)

    async def answer(self, executor: Executor, store: Store) -> None:
        """Answer them, without end."""
        while True:
            asked = [await self._new.get()]
            while not self._new.empty():
                asked.append(self._new.get_nowait())
            looks = (executor.look(one.job, one.attempt) for one in asked)
            answers: dict[str, bytes] = {}
            for one, found in zip(asked, await asyncio.gather(*looks, return_exceptions=True), strict=True):
                if isinstance(found, stack_of.Stack):
                    answers[one.id] = stack_of.written(found)
                elif found is not None:
                    log.error("where job %s is could not be found out", one.job, exc_info=found)
            with contextlib.suppress(StoreUnavailable):  # the next beat brings the question again
                if answers:
                    await store.answer(answers)
            self._open.difference_update(asked)
