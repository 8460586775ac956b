"""The two jobs. A module of its own, so that the processes that run them need not import the web framework."""

import sys
import time
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictFloat, StrictInt

from heavylift import Context, Heavylift, Retry, exponential

QUEUE = "worker-queue"
QUEUE_SIZE = 100
QUEUE_CONCURRENCY = 2
LARGEST = sys.float_info.max


def readable(number: float) -> float:
    """The number, unless it is one that other readers of JSON cannot hold."""
    if not abs(number) <= LARGEST:
        message = f"a number is at most {LARGEST:g}"
        raise ValueError(message)
    return number


Number = Annotated[StrictInt | StrictFloat, AfterValidator(readable)]
Burn = Annotated[StrictFloat, Field(ge=0, le=60)]

# One to four processes, and of the finished jobs the last few.
lift = Heavylift("sqlite:///add_numbers.db", concurrency=4, idle="30s", keep_succeeded=10, keep_failed=5)
thrice = Retry(3, exponential(2, jitter=False))


@lift.task(name="add-two-numbers", queue=QUEUE, retry=thrice, timeout="5m")
def add_two_numbers(ctx: Context, a: Number, b: Number, burn: Burn = 0.0) -> dict[str, Any]:
    """The sum of two numbers, after `burn` seconds of CPU time."""
    return add(ctx, [a, b], burn)


@lift.task(name="add-three-numbers", queue=QUEUE, retry=thrice, timeout="5m")
def add_three_numbers(ctx: Context, a: Number, b: Number, c: Number, burn: Burn = 0.0) -> dict[str, Any]:
    """The sum of three numbers, after `burn` seconds of CPU time."""
    return add(ctx, [a, b, c], burn)


def add(ctx: Context, numbers: list[float], burn: float) -> dict[str, Any]:
    """The sum, and how long it took in milliseconds. A sum that is too large is an error."""
    began, cpu_began = time.monotonic(), time.process_time()
    # A sum alone is over too soon to be watched, stopped or waited for.
    while (spent := time.process_time() - cpu_began) < burn:
        ctx.progress(spent, burn, unit="s")
    ctx.progress(burn, burn, unit="s")
    result = readable(sum(numbers))
    return {"success": True, "result": result, "executionTime": round((time.monotonic() - began) * 1000)}
