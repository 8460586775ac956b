"""The work. A module of its own, so that the processes that run it need not import the web framework."""

import time
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from heavylift import Heavylift

QUEUE = "long-process"
QUEUE_SIZE = 100
LONGEST = 3600.0
SLACK = 60.0
"""Seconds over its duration after which a process is stopped."""

Duration = Annotated[float, Field(ge=0, le=LONGEST)]

lift = Heavylift("sqlite:///long_process.db", keep="1d")


# One attempt: an error is for the caller to see. Only a restart of the machine or the worker starts it again.
@lift.task(queue=QUEUE, max_attempts=1, crashes=1)
def long_process(duration: Duration) -> dict[str, str]:
    """Burn a CPU for `duration` seconds."""
    end = time.monotonic() + duration
    while time.monotonic() < end:
        pass
    return {
        "processedAt": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "duration": f"{int(duration) if duration.is_integer() else duration} seconds",
        "message": "Long-running task completed successfully",
    }
