"""The jobs of an application as a test looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heavylift.client import Handle
from heavylift.core import codec
from heavylift.core.errors import ConfigError, InvalidArguments, did_you_mean
from heavylift.core.job import Job
from heavylift.core.result import result_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from heavylift.app import Heavylift
    from heavylift.bound_task import BoundTask
    from heavylift.core.task import Task
    from heavylift.testing.portal import Portal

    AnyTask = BoundTask[..., ..., Any, Any]

SHOWN = 5
"""Jobs that a message names."""


class Jobs(list[Job]):
    """Jobs that were found; when there are none, `assert` says what there is instead."""

    def __init__(self, found: Iterable[Job], wanted: str, others: Iterable[Job]) -> None:
        super().__init__(found)
        self._wanted, self._others = wanted, list(others)

    def __repr__(self) -> str:
        if self:
            return f"<{len(self)} of {self._wanted}: {_listed(self)}>"
        return f"<no job of {self._wanted}; there {_are(len(self._others))}: {_listed(self._others) or 'no other'}>"


class Observer:
    """Looks at the jobs of `lift` through `eye`, the same store for a loop of its own."""

    def __init__(self, lift: Heavylift, eye: Heavylift, portal: Portal) -> None:
        self._lift, self._eye, self._portal = lift, eye, portal

    def submitted(self, task: AnyTask, **arguments: Any) -> Jobs:
        """The jobs of a task, oldest first, whatever became of them; with `arguments`, those that were given these, or
        have them by default. `assert lift_env.submitted(task, customer_id=7)` says what there was instead.

        Raises ConfigError for an argument that the task does not have.
        """
        for name in arguments:
            if name not in task.task.parameters:
                message = f"Task {task.name!r} has no argument {name!r}.{did_you_mean(name, task.task.parameters)}"
                raise ConfigError(message)
        every = self._portal.run(self._all())
        found = [job for job in every if job.task == task.name and _has(task.task, job, arguments)]
        return Jobs(found, _call(task.name, arguments), [job for job in every if job not in found])

    def job(self, wanted: AnyTask | Handle[Any] | Job, **arguments: Any) -> Job:
        """The record, as it is now, of a handle's job, or of the only job of a task (with these arguments).

        Raises AssertionError when there is none or more than one.
        """
        if isinstance(wanted, Handle | Job):
            return self._portal.run(self._eye.client.get(wanted.id))
        found = self.submitted(wanted, **arguments)
        assert len(found) == 1, f"exactly one job was expected: {found!r}"
        return found[0]

    def result(self, wanted: AnyTask | Handle[Any] | Job, **arguments: Any) -> Any:
        """The result of a job (see `job`), as the task's own type.

        Raises JobFailed, JobTimedOut, JobCrashed or JobCancelled as `Handle.result`, and AssertionError when it is not
        over.
        """
        job = self._over(self.job(wanted, **arguments))
        return result_of(job, self._lift.registry.get(job.task))

    def _over(self, job: Job) -> Job:
        assert job.state.final, f"{_shown(job)} is not over"
        return job

    async def _all(self) -> list[Job]:
        return [job async for job in self._eye.find()][::-1]


def _has(task: Task, job: Job, arguments: Mapping[str, Any]) -> bool:
    if not arguments:
        return True
    try:
        given = task.arguments(job.args)
    except InvalidArguments:
        return False
    return all(given.get(name, task.parameters[name].default) == value for name, value in arguments.items())


def _are(count: int) -> str:
    return "is" if count <= 1 else f"are {count}"


def _listed(jobs: Iterable[Job]) -> str:
    names = [_shown(job) for job in jobs]
    return ", ".join(names[:SHOWN] + ["…"] * (len(names) > SHOWN))


def _shown(job: Job) -> str:
    return f"{_call(job.task, codec.decode(job.args))} {job.state}"


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
