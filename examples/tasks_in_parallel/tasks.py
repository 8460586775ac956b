"""The work as jobs. A module of its own, so that the processes that run them need not import the web framework."""

import json
import subprocess
import sys
from typing import Annotated

from pydantic import Field

from examples.tasks_in_parallel import burn as program
from heavylift import Context, Heavylift

QUEUE = "tasks-in-parallel"
QUEUE_SIZE = 100
LONGEST = 60_000

Milliseconds = Annotated[int, Field(ge=0, le=LONGEST)]

lift = Heavylift("sqlite:///tasks_in_parallel.db", keep="1d")


# One attempt each: somebody waits for the answer, and an error is one.
@lift.task(name="worker", queue=QUEUE, max_attempts=1, crashes=1, timeout="2m")
def burn_in_worker(cpu_time: Milliseconds = 1000) -> dict[str, int]:
    """Keep a CPU busy in one of the worker's processes."""
    program.burn(cpu_time)
    return {"CPUTimeMs": cpu_time}


@lift.task(name="child-process", queue=QUEUE, max_attempts=1, crashes=1, timeout="2m")
def burn_in_child(ctx: Context, cpu_time: Milliseconds = 1000) -> dict[str, int]:
    """Run a program that keeps a CPU busy. What it prints goes to the job's log; the last line is the result."""
    command = [sys.executable, program.__file__, str(cpu_time)]
    line = "null"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603  our own program, a number
        try:
            for line in child.stdout or ():
                ctx.log.info(line.rstrip())
        except BaseException:
            # Leaving the block waits for the program, and a cancel does not.
            child.kill()
            raise
    if child.returncode != 0:
        message = f"Worker stopped with exit code {child.returncode}"
        raise RuntimeError(message)
    answer: dict[str, int] = json.loads(line)
    return answer
