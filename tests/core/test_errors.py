"""The tree of errors: stable codes, data as attributes, messages that name the fix."""

import inspect

import pytest

import heavylift.store
from heavylift.core import errors
from heavylift.core.errors import (
    DuplicateJob,
    HeavyliftError,
    InvalidArguments,
    JobCancelled,
    JobError,
    JobFailed,
    JobFinished,
    JobNotFinished,
    JobNotFound,
    JobPruned,
    PayloadTooLarge,
    Problem,
    QueueFull,
    RetryLater,
    Snooze,
    SubmitError,
    UnknownTask,
    did_you_mean,
    shown,
)
from heavylift.core.job import CancelRequest, Error, Job, State
from heavylift.core.options import Options

CODES = {
    "HeavyliftError": "error",
    "ConfigError": "config-error",
    "SubmitError": "submit-error",
    "UnknownTask": "unknown-task",
    "InvalidArguments": "invalid-arguments",
    "PayloadTooLarge": "payload-too-large",
    "QueueFull": "queue-full",
    "DuplicateJob": "duplicate-job",
    "JobNotFound": "job-not-found",
    "JobPruned": "job-pruned",
    "JobFinished": "job-finished",
    "JobNotFinished": "job-not-finished",
    "JobNotRunning": "job-not-running",
    "JobNotWaiting": "job-not-waiting",
    "JobChanged": "job-changed",
    "NoAnswer": "no-answer",
    "StoreError": "store-error",
    "StoreUnavailable": "store-unavailable",
    "SchemaTooNew": "schema-too-new",
    "LeaseLost": "lease-lost",
    "JobError": "job-error",
    "JobFailed": "job-failed",
    "JobTimedOut": "job-timed-out",
    "JobCrashed": "job-crashed",
    "JobCancelled": "job-cancelled",
}


def tree(cls=HeavyliftError):
    yield cls
    for child in cls.__subclasses__():
        yield from tree(child)


def own_classes():
    modules = (errors.__name__, heavylift.store.__name__)
    return {cls.__name__: cls for cls in tree() if cls.__module__ in modules}


def test_every_error_has_its_stable_code():
    """HTTP and CLI answer with them: a change here breaks callers."""
    assert {name: cls.code for name, cls in own_classes().items()} == CODES


def test_every_code_is_unique_and_stands_in_its_own_class():
    """Nobody inherits a code by oversight."""
    assert len(set(CODES.values())) == len(CODES)
    for cls in own_classes().values():
        assert "code" in vars(cls), cls


def test_the_map_of_the_tree_names_every_error():
    """The docstring of the module is the documentation; `Cancelled` is no error at all."""
    for name in CODES:
        assert name in errors.__doc__
    assert not issubclass(errors.Cancelled, Exception)


def test_every_error_explains_itself():
    """Each class has a docstring of its own."""
    for cls in own_classes().values():
        assert inspect.getdoc(cls)
        assert cls.__doc__ is not cls.__base__.__doc__


def job(state, **fields):
    return Job("j1", "build", b"{}", Options(), state, 0.0, 0.0, **fields)


MESSAGES = {
    "an unknown task, nearly known": (
        UnknownTask("biuld", ["build", "mail"]),
        "There is no task 'biuld'. Did you mean 'build'? (known tasks: build, mail)",
        {"name": "biuld"},
    ),
    "an unknown task of an application without any": (
        UnknownTask("build", []),
        "There is no task 'build'. (the application has no tasks)",
        {},
    ),
    "arguments": (
        InvalidArguments("build", [Problem("/a", "Field required"), Problem("", "too many")]),
        "The arguments do not fit task 'build': /a: Field required; /: too many",
        {"task": "build", "problems": (Problem("/a", "Field required"), Problem("", "too many"))},
    ),
    "a payload": (
        PayloadTooLarge(2_000_000, 1_048_576),
        (
            "The arguments take 2,000,000 bytes, the limit is 1,048,576."
            " Store the data elsewhere and submit a reference to it, or raise max_payload."
        ),
        {"size": 2_000_000, "limit": 1_048_576},
    ),
    "a full queue": (
        QueueFull("mail", 10, 30),
        "Queue 'mail' is full: it holds its limit of 10 waiting jobs. Submit again in 30 s.",
        {"queue": "mail", "limit": 10, "retry_after": 30},
    ),
    "a duplicate": (
        DuplicateJob("report:7", "j1"),
        "The unique key 'report:7' belongs to job j1: it is not over, or its unique_for is not.",
        {"unique": "report:7", "existing": "j1"},
    ),
    "a duplicate id": (
        DuplicateJob(None, "order-7", "of task 'mail'"),
        "The id 'order-7' belongs to a job of task 'mail'; choose another id for this one.",
        {"unique": None, "existing": "order-7"},
    ),
    "not found": (JobNotFound("j1"), "There is no job 'j1'.", {"job_id": "j1"}),
    "pruned": (JobPruned("j1"), "Job 'j1' was removed when its retention was over.", {"job_id": "j1"}),
    "over, cancelled": (JobFinished("j1", State.CANCELLED), "Job j1 is over already: it was cancelled.", {}),
    "over, failed": (JobFinished("j1", State.FAILED), "Job j1 is over already: it failed.", {"state": "failed"}),
    "not over": (JobNotFinished("j1", State.RUNNING, "wait."), "Job j1 is running: wait.", {"state": "running"}),
    "failed": (
        JobFailed(job(State.FAILED, error=Error("failed", "boom"))),
        "Job j1 (build) failed: boom",
        {"job": job(State.FAILED, error=Error("failed", "boom"))},
    ),
    "cancelled": (JobCancelled(job(State.CANCELLED)), "Job j1 (build) was cancelled.", {}),
    "cancelled with a reason, after a failure": (
        JobCancelled(
            job(
                State.CANCELLED, error=Error("failed", "an earlier one"), cancel=CancelRequest(1.0, reason="not needed")
            )
        ),
        "Job j1 (build) was cancelled: not needed",
        {},
    ),
}


@pytest.mark.parametrize(("error", "message", "attributes"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_says_what_happened_and_the_data_are_attributes(error, message, attributes):
    """People read the message, programs the attributes."""
    assert str(error) == message
    assert {name: getattr(error, name) for name in attributes} == attributes


def test_who_catches_a_family_catches_its_members():
    """A pruned job was not found; a full queue is a refused submit."""
    assert issubclass(JobPruned, JobNotFound)
    assert issubclass(QueueFull, SubmitError)
    assert issubclass(JobCancelled, JobError)
    assert not issubclass(JobFinished, JobError)


def test_wishes_of_task_code_carry_what_they_ask_for():
    """They are plain exceptions, so that `finally` runs and a bare `except` sees them."""
    assert RetryLater("10m").delay == "10m"
    assert Snooze(5).delay == 5
    assert not issubclass(RetryLater, HeavyliftError)


@pytest.mark.parametrize(
    ("word", "hint"), [("timout", " Did you mean 'timeout'?"), ("zzz", ""), ("", ""), ("x" * 10**6, "")]
)
def test_did_you_mean_guesses_only_what_is_near(word, hint):
    """A far word gets no guess, a huge one no long search."""
    assert did_you_mean(word, ["timeout", "queue"]) == hint


def test_a_shown_value_is_short_and_never_raises():
    """A message must not be longer than what it complains about."""

    class Broken:
        def __repr__(self):
            raise RuntimeError

    assert shown("x") == "'x'"
    assert shown(Broken()) == "<Broken>"
    assert shown(10**5000) == "<int>"
    assert len(shown("x" * 10**6)) == errors.SHOWN + 1
