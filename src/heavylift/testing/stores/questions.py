"""The cases of `ask`, `answer` and `answered`."""

# ruff: noqa: D102  a test is named by its sentence, asserts, and compares with the very number

from __future__ import annotations

import asyncio

from heavylift.core.options import Slots
from heavylift.core.outcome import Interrupted
from heavylift.core.retention import Retention
from heavylift.store import Question, Store
from heavylift.testing.clock import FakeClock
from heavylift.testing.stores.cases import LEASE, StoreCases

SOON = 10.0


class Asking(StoreCases):
    """Questions about running jobs, which their workers answer through the store."""

    async def questions(self, store: Store, worker: str = "worker") -> list[Question]:
        """What a beat brings."""
        return list((await store.beat(self.worker(worker), LEASE)).questions)

    async def test_a_question_reaches_its_worker_and_the_answer_whoever_asked(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        (job,) = await self.started(store, clock, "a")
        await store.beat(self.worker("second"), LEASE)
        question = Question("q", "a", 1)
        assert await other.ask(question, 20.0) == "q"
        assert await other.answered("q") is None
        assert await self.questions(store, "second") == []
        for _ in range(2):
            assert await self.questions(store) == [question], "until it is answered"
        await store.answer({"q": b"here"})
        assert await other.answered("q") == b"here"
        assert await self.questions(store) == []
        assert await self.read(store, "a") == job, "nothing of the job has changed"
        assert len(await self.events(store, "a")) == job.seq

    async def test_questions_of_the_same_moment_have_one_answer_and_later_ones_another(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.started(store, clock, "a", "b")
        assert await store.ask(Question("q1", "a", 1), 20.0) == "q1"
        assert await other.ask(Question("q2", "a", 1), 20.0) == "q1"
        assert await other.ask(Question("q3", "b", 1), 20.0) == "q3"
        assert await self.questions(store) == [Question("q1", "a", 1), Question("q3", "b", 1)]
        await store.answer({"q1": b"1", "q3": b"3"})
        assert await store.ask(Question("q4", "a", 1), 20.0) == "q4"
        assert await self.questions(store) == [Question("q4", "a", 1)]
        await store.answer({"q4": b"4"})
        assert [await other.answered(name) for name in ("q1", "q2", "q3", "q4")] == [b"1", None, b"3", b"4"]

    async def test_what_does_not_run_is_not_asked_about(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        await self.added(store, clock, "queued")
        for name, attempt in (("queued", 0), ("a", 2), ("nobody", 1)):
            assert await store.ask(Question("q", name, attempt), 20.0) is None
        await self.settle(store, clock, job)
        assert await store.ask(Question("q", "a", 1), 20.0) is None
        assert await store.answered("q") is None

    async def test_a_question_goes_with_its_attempt(self, store: Store, clock: FakeClock) -> None:
        (job,) = await self.started(store, clock, "a")
        await store.ask(Question("q", "a", 1), 20.0)
        await self.settle(store, clock, job, Interrupted("drained"))
        (again,) = await store.claim("worker", 1, Slots(5))
        assert again.attempt == 2
        assert await self.questions(store) == []

    async def test_questions_and_answers_are_forgotten(self, store: Store, other: Store, clock: FakeClock) -> None:
        await self.started(store, clock, "a", "b")
        await store.ask(Question("q1", "a", 1), 20.0)
        await store.ask(Question("q2", "b", 1), 20.0)
        await store.answer({"q1": b"1"})
        clock.advance(10)
        await store.beat(self.worker(), LEASE)
        assert await other.answered("q1") == b"1"
        clock.advance(11)
        assert await self.questions(store) == []
        assert await other.answered("q1") is None
        await store.answer({"q2": b"late", "unknown": b"?"})
        assert await other.answered("q2") is None
        assert await other.ask(Question("q3", "b", 1), 20.0) == "q3", "an old one stands for no new one"
        await store.prune(Retention())
        assert await self.questions(store) == [Question("q3", "b", 1)]

    async def test_a_question_lasts_as_long_as_anybody_waits(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.started(store, clock, "a")
        await store.ask(Question("q1", "a", 1), 20.0)
        clock.advance(10)
        assert await other.ask(Question("q2", "a", 1), 30.0) == "q1"
        assert await other.ask(Question("q3", "a", 1), 5.0) == "q1"
        clock.advance(29)
        await store.beat(self.worker(), LEASE)
        assert await self.questions(store) == [Question("q1", "a", 1)]
        clock.advance(2)
        assert await self.questions(store) == []

    async def test_a_question_wakes_the_worker_and_its_answer_who_waits(
        self, store: Store, other: Store, clock: FakeClock
    ) -> None:
        await self.started(store, clock, "a")
        async with store.watch(worker="worker") as worker, other.watch() as follower:
            for hints in (worker, follower):
                while await hints.wait(0.0):
                    pass
            waiting = asyncio.create_task(worker.wait(SOON))
            await other.ask(Question("q", "a", 1), 20.0)
            assert await waiting
            waiting = asyncio.create_task(follower.wait(SOON))
            await store.answer({"q": b"here"})
            assert await waiting
