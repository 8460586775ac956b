"""An event loop in a thread of its own, for tests with and without a loop; task code runs where the test does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """Runs coroutines on its own loop while the caller waits.

    What is given to `place` meanwhile is called in the caller's thread, or, where a loop runs there, in another one:
    code that must not be called from within a loop finds none.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="heavylift test", daemon=True)
        self._thread.start()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._elsewhere: ThreadPoolExecutor | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of the coroutine."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        future.add_done_callback(lambda _: self._calls.put(None))
        if not _loop_runs():
            self._serve(future)
        else:
            if self._elsewhere is None:
                self._elsewhere = ThreadPoolExecutor(1, "heavylift test tasks")
            self._elsewhere.submit(self._serve, future).result()
        return future.result()

    def place(self, call: Callable[[], None]) -> None:
        """Have a function called by whoever waits in `run`."""
        self._calls.put(call)

    def close(self) -> None:
        """End the loop."""
        if self._elsewhere is not None:
            self._elsewhere.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _serve(self, future: Future[Any]) -> None:
        try:
            while (call := self._calls.get()) is not None:
                call()
        except BaseException:
            future.cancel()  # Ctrl-C, most likely
            raise


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
