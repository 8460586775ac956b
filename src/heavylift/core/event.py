"""Events: numbered facts about a job, written together with the change that they report.

Kinds, each with its data:

`state`       the job came into a state: {state, attempt, …}. With a start also {worker}; with an ended attempt
              {outcome, error, usage, reason, killed}; with a wait {run_at}; with a cancel {stopped, reason}; with a
              manual retry {retry: true, from_checkpoint}, which says whether it goes on from one; with another place in
              the line {moved: true, priority}.
`cancel`      a running job was asked to stop: {grace, force, reason}.
`checkpoint`  a value was saved from which the next attempt resumes: {attempt, size}.
`progress`    how far it is, and how fast it goes: the fields of Progress. Thinned to at most 256 a job; the last value
              is always kept.
`log`         lines of its log: {lines: [{at, level, message}, …], dropped}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE = "state"
CANCEL = "cancel"
CHECKPOINT = "checkpoint"
PROGRESS = "progress"
LOG = "log"


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `seq` counts from 1 within the job, in the order of the writes; `at` Unix seconds."""

    job: str
    seq: int
    kind: str
    at: float
    data: Mapping[str, Any]
