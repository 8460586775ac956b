"""How many due jobs are likely to start before one that waits. Nothing is counted further than MOST_AHEAD."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from heavylift.core.options import Options
from heavylift.core.queue import MOST_AHEAD
from heavylift.stores.sqlite import lanes
from heavylift.stores.sqlite.lanes import LaneRow

SAMPLE = 50
"""Lanes beside a job's own in which is counted how many take turns with it; of more, these stand for all."""

LANE = f"{lanes.SELECT} WHERE number = ?"
DUE = "SELECT 1 FROM job INDEXED BY job_due WHERE state = 2 AND lane = ?1"
# From one place in a lane, (?2, ?3), up to another, (?4, ?5). Many jobs may have one rank: each part is a range of the
# index, which has the number behind the rank.
BETWEEN = (
    f"SELECT count(*) FROM ("
    f"SELECT 1 FROM ({DUE} AND rank = ?2 AND number >= ?3 AND number < iif(?2 < ?4, {2**63 - 1}, ?5) LIMIT ?6)"
    f" UNION ALL SELECT 1 FROM ({DUE} AND rank > ?2 AND rank < ?4 LIMIT ?6)"
    f" UNION ALL SELECT 1 FROM ({DUE} AND rank = ?4 AND number < iif(?2 < ?4, ?5, 0) LIMIT ?6)"
    " LIMIT ?6)"
)
IN_LANE = f"SELECT count(*) FROM ({DUE} LIMIT ?2)"
# Lanes with jobs of tasks that some worker does not know are no company for those of others.
CLAIMABLE = (
    "FROM lane INDEXED BY lane_in_turn WHERE parent = ?1 AND ready = 1 AND parked IS NULL"
    " AND (task IS NULL OR task = ?2)"
)
BESIDE = f"SELECT number, turn {CLAIMABLE} ORDER BY turn LIMIT ?3"
MANY_BESIDE = f"SELECT count(*), coalesce(sum(turn < ?3), 0) FROM (SELECT turn {CLAIMABLE} ORDER BY turn LIMIT ?4)"
FIRST = (float("-inf"), 0)
"""Before all places in a lane."""


class Waits(NamedTuple):
    """A queued job: what of its row says where it stands."""

    number: int
    id: str
    task: str
    queue: int
    lane: int
    options: Options
    rank: float
    attempt: int


def counted(
    connection: sqlite3.Connection, jobs: Iterable[Waits], alone: frozenset[str], queued: dict[int, int]
) -> dict[str, int]:
    """How many are ahead of each of these jobs, by id: those before it in its lane, and, unless its lane waits for
    itself (ids in `alone`), those of other lanes that come up until it is its turn. `queued`: how many a queue has.
    """
    lines, found = Lines(connection), dict[str, int]()
    for job in sorted(jobs, key=lambda job: (job.lane, job.rank, job.number)):
        before = lines.before(job)
        beside = 0 if job.id in alone or before >= MOST_AHEAD else lines.beside(job, before)
        found[job.id] = min(MOST_AHEAD, before + min(beside, max(queued[job.queue] - 1 - before, 0)))
    return found


@dataclass(slots=True)
class Lines:
    """The lanes of one look, with what was counted in them so far."""

    connection: sqlite3.Connection
    _last: tuple[int, tuple[float, int], int] = (0, FIRST, 0)
    """Lane, place and number of those before it, of the last job."""
    _lengths: dict[int, tuple[int, int]] = field(default_factory=dict)
    """How many jobs were counted in a lane, and how many at most were to be."""
    _company: dict[tuple[int, str], list[tuple[int, int]]] = field(default_factory=dict)
    """Claimable lanes beside a queue's own, and their turns."""
    _rows: dict[int, LaneRow | None] = field(default_factory=dict)

    def before(self, job: Waits) -> int:
        """Those before it in its lane; jobs of one lane come in their order."""
        lane, place, count = self._last
        if lane != job.lane:
            place, count = FIRST, 0
        if count < MOST_AHEAD:
            count += self._count(BETWEEN, job.lane, *place, job.rank, job.number, MOST_AHEAD - count)
        self._last = (job.lane, (job.rank, job.number), count)
        return count

    def beside(self, job: Waits, before: int) -> int:
        """Those of other lanes that come up first. Lanes take turns, so each gives as many as stand before the job in
        its own lane, and one more if its turn is sooner.
        """
        lane = self._lane(job.lane)
        own = lane if lane is None or lane.parent is None else self._lane(lane.parent)
        if lane is None or own is None or (own is lane and not own.crowded):
            return 0
        company = self._company.get((own.number, job.task))
        if company is None:
            company = self.connection.execute(BESIDE, (own.number, job.task, SAMPLE + 1)).fetchall()
            self._company[own.number, job.task] = company
        others = [other for other in company if other[0] != lane.number][:SAMPLE]
        first = [(own.number, own.turn)] if own is not lane and own.ready else []
        count, left = 0, MOST_AHEAD - before
        for number, turn in [*others, *first]:
            most = before + ((turn, number) < (lane.turn, lane.number))
            count += self._length(number, min(most, left - count))
        if len(company) <= SAMPLE:
            return count
        values = (own.number, job.task, lane.turn, MOST_AHEAD)
        many, sooner = self.connection.execute(MANY_BESIDE, values).fetchone()
        return min(count * int(many) // SAMPLE, int(many) * before + int(sooner))

    def _length(self, lane: int, most: int) -> int:
        """How many due jobs a lane has, up to `most`; it counts a few more, since others will ask for these."""
        count, limit = self._lengths.get(lane, (0, 0))
        if limit < most and count == limit:
            limit = min(2 * most, MOST_AHEAD)
            count = self._count(IN_LANE, lane, limit)
            self._lengths[lane] = count, limit
        return min(count, max(most, 0))

    def _lane(self, number: int) -> LaneRow | None:
        if number not in self._rows:
            row = self.connection.execute(LANE, (number,)).fetchone()
            self._rows[number] = None if row is None else LaneRow.of(row)
        return self._rows[number]

    def _count(self, statement: str, *values: float) -> int:
        return int(self.connection.execute(statement, values).fetchone()[0])
