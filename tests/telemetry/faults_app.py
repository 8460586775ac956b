"""Jobs that go wrong in every way that there is, and some that say something."""

import asyncio
import contextlib
import logging
import logging.config
import os
import signal
import threading
import time
from pathlib import Path

import structlog

from heavylift import Context, Heavylift

lift = Heavylift(
    "sqlite:///jobs.db",
    concurrency=1,
    beat="200ms",
    lease="30s",
    sweep="200ms",
    drain="1s",
    stalled="2s",
    max_log="4KiB",
)
REFUSE = Path("refuse")
library = logging.getLogger("some.library")
structlog.configure(
    processors=[structlog.stdlib.add_log_level, structlog.stdlib.render_to_log_kwargs],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
structured = structlog.get_logger("structured")


@lift.on_host_start
def refuse() -> None:
    if REFUSE.exists():
        message = "no host today"
        raise RuntimeError(message)


@lift.task(max_attempts=1)
def fail() -> None:
    message = "no luck"
    raise ValueError(message)


@lift.task(crashes=1)
def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@lift.task(timeout=0.2, grace=0.2, max_attempts=1)
def defy() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


@lift.task(memory="200MiB", max_attempts=1)
def eat() -> None:
    eaten = [bytearray(b"x" * 2**20) for _ in range(300)]
    time.sleep(60)
    del eaten


@lift.task(cpu_time=0.2, max_attempts=1)
def burn() -> None:
    while True:
        pass


@lift.task
def chatter(ctx: Context) -> None:
    for number in range(200):
        ctx.log.info("line %d of many that are far too much for so small a log", number)


@lift.task
def sleep(ctx: Context, seconds: float) -> None:
    ctx.log.info("I sleep")
    time.sleep(seconds)


@lift.task
async def wait(ctx: Context, seconds: float) -> None:
    ctx.log.info("I wait")
    await asyncio.sleep(seconds)


@lift.task(crashes=1)
async def kill_host(ctx: Context) -> None:
    ctx.log.info("here it comes")
    await asyncio.sleep(0.1)
    if not ctx.job_id.startswith("alone"):
        os.kill(os.getpid(), signal.SIGKILL)


@lift.task
async def block(seconds: float) -> None:
    time.sleep(seconds)


@lift.task(run_in="thread")
def cling(ctx: Context, seconds: float) -> None:
    end = time.monotonic() + seconds
    ctx.log.info("I cling")
    while time.monotonic() < end:
        with contextlib.suppress(BaseException):
            time.sleep(0.05)


# --- what is said --------------------------------------------------------------------------------


@lift.task(labels={"tenant": "acme"})
def say() -> None:
    library.debug("whispered")
    library.info("said %s", "this", extra={"size": 3, "odd": Path("a/b"), "odder": object})
    structured.warning("structured", part=7)
    thread = threading.Thread(target=library.info, args=("from a thread of the job",))
    thread.start()
    thread.join()
    try:
        int("broken")
    except ValueError:
        library.exception("caught")
    library.info("wrong %d", "format")


@lift.task
def say_with_fields(ctx: Context) -> None:
    ctx.log.info("saved", name="a.txt", filename="b.txt", process=7, task="mine", level="high")


@lift.task
def configure_logging() -> int:
    logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}, "disable_existing_loggers": False})
    return os.getpid()


@lift.task
def say_where() -> int:
    library.info("here")
    return os.getpid()


configure_logging_in_thread = lift.task(name="configure_logging_in_thread", run_in="thread")(
    configure_logging.__wrapped__
)
say_where_in_thread = lift.task(name="say_where_in_thread", run_in="thread")(say_where.__wrapped__)


@lift.task
async def say_awaiting(name: str) -> None:
    for number in range(5):
        library.info("%s %d", name, number)
        await asyncio.sleep(0.01)
    await asyncio.gather(_in_a_task(name), asyncio.to_thread(library.info, "%s in a thread", name))


async def _in_a_task(name: str) -> None:
    library.info("%s in a task", name)


@lift.task(run_in="thread")
def say_in_thread(name: str) -> None:
    for number in range(5):
        library.info("%s %d", name, number)
        time.sleep(0.01)


@lift.task
def unattributed() -> None:
    print("printed")
    print('{"already": "json"}')
