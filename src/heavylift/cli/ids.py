"""Ids as people type them: whole, or the beginning or the end of one; @last is the newest job."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from heavylift.core.errors import ConfigError, JobNotFound
from heavylift.core.units import spoken
from heavylift.store import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heavylift.client import Client
    from heavylift.core.job import Job

LAST = "@last"
SEEN = 1000
"""The newest jobs, among which a part of an id is looked for."""
SHOWN = 5
PART = re.compile(r"[0-9A-Za-z._:-]{4,}")
"""What is shorter would hit by chance."""


async def find(client: Client, text: str) -> Job:
    """The job that is meant. Raises JobNotFound, and ConfigError for a part that several ids have."""
    if text == LAST:
        newest = (await client.page(Query(limit=1))).jobs
        if not newest:
            raise JobNotFound(text)
        return newest[0]
    try:
        return await client.get(text)
    except JobNotFound as error:
        if type(error) is not JobNotFound or not PART.fullmatch(text):
            raise
    wanted = text.lower()
    recent = (await client.page(Query(limit=SEEN))).jobs
    found = [job for job in recent if job.id.lower().startswith(wanted) or job.id.lower().endswith(wanted)]
    if not found:
        raise JobNotFound(text)
    if len(found) > 1:
        raise ConfigError(_ambiguous(text, found))
    return found[0]


def _ambiguous(text: str, found: Sequence[Job]) -> str:
    now = time.time()
    lines = [
        f"  {job.id}  {job.task}  {job.state}  {spoken(now - job.created_at, short=True)} ago" for job in found[:SHOWN]
    ]
    more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (
        f"{len(found)} jobs have an id that begins or ends with {text!r}; give more of it:\n" + "\n".join(lines) + more
    )
