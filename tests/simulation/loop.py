"""An event loop on which no time passes but the time that its callbacks wait for, in an order that a seed decides.

Every callback belongs to a process (that of its context). Within a process callbacks run in the order in which they
came, as asyncio promises; which process runs next is chance. A process can be stopped, continued and killed.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random

T = TypeVar("T")


class Process:
    """One process: its callbacks that are ready, and whether it runs. `parent`: dies with it."""

    def __init__(self, loop: VirtualLoop, name: str, parent: Process | None = None) -> None:
        self._loop = loop
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.lost: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.children: list[Process] = []
        self.stopped = False
        self.killed = False
        self.context = copy_context()
        self.context.run(PROCESS.set, self)
        if parent is not None:
            parent.children.append(self)

    def __repr__(self) -> str:
        return self.name

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in this process."""
        return self._loop.create_task(coroutine, context=self.context)

    def soon(self, callback: Callable[..., object], *args: Any) -> asyncio.Handle:
        """Have this process call back when it is its turn."""
        return self._loop.call_soon(callback, *args, context=self.context)

    def later(self, delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Have this process call back after `delay` seconds, or when it runs again."""
        return self._loop.call_later(delay, callback, *args, context=self.context)

    def stop(self) -> None:
        """SIGSTOP: nothing runs, what becomes due waits."""
        self.stopped = True
        self._loop.forget(self)

    def proceed(self) -> None:
        """SIGCONT: all that became due meanwhile runs, in its order."""
        self.stopped = False
        if self.ready:
            self._loop.remember(self)

    def kill(self) -> None:
        """SIGKILL: not one more callback runs, here and in the children."""
        self.killed = True
        self.lost += self.ready
        self.ready.clear()
        self._loop.forget(self)
        for child in self.children:
            child.kill()

    def bury(self) -> None:
        """When all is over: end what was cut off, so that Python finds no coroutine that was never finished."""
        self.killed = self.stopped = False
        self.ready.extend(self.lost)
        self.proceed()
        for task in self.tasks:
            if not task.done():
                task.cancel()


PROCESS: ContextVar[Process] = ContextVar("PROCESS")


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs what is ready; when nothing is, it goes to the next timer at once."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._sequence = 0
        self._runnable: list[Process] = []
        self.failures: list[dict[str, Any]] = []
        """What asyncio would have logged: exceptions that nobody waits for."""
        self.turns = 0
        """Callbacks that ran."""
        self.root = Process(self, "world")

    def time(self) -> float:
        return self._now

    def run_until_complete(self, future: Any) -> Any:
        task = self.root.start(future) if asyncio.iscoroutine(future) else future
        asyncio._set_running_loop(self)
        try:
            while not task.done():
                self._turn()
        finally:
            asyncio._set_running_loop(None)
        return task.result()

    def _turn(self) -> None:
        runnable = self._runnable
        while not runnable:
            self._go_to_next_timer()
        index = int(self._random.random() * len(runnable)) if len(runnable) > 1 else 0
        process = runnable[index]
        handle = process.ready.popleft()
        if not process.ready:
            del runnable[index]
        if not handle._cancelled:
            self.turns += 1
            handle._run()

    def _go_to_next_timer(self) -> None:
        if not self._timers:
            message = "nothing is ready and nothing waits for a time: the simulation hangs"
            raise RuntimeError(message)
        when, _, handle = heapq.heappop(self._timers)
        if not handle._cancelled:
            self._now = max(self._now, when)
            self._enqueue(handle)

    def _enqueue(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(PROCESS, self.root)
        if process.killed:
            process.lost.append(handle)
            return
        process.ready.append(handle)
        if len(process.ready) == 1 and not process.stopped:
            self._runnable.append(process)

    def forget(self, process: Process) -> None:
        """A process that does not run."""
        if process in self._runnable:
            self._runnable.remove(process)

    def remember(self, process: Process) -> None:
        """A process that runs again."""
        if process not in self._runnable:
            self._runnable.append(process)

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        (context.get(PROCESS, self.root) if context else PROCESS.get(self.root)).tasks.append(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """There are no threads here: what would run in one is done at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  whoever waits gets it
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is left where it is, and passed over."""

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False
