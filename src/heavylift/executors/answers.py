"""In a host: what a task returned or raised, as the body of an answer. Nothing here trusts a user's object."""

from __future__ import annotations

import traceback
import types
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from heavylift.core import codec
from heavylift.core.errors import Cancelled, ConfigError, GiveUp, InvalidArguments, RetryLater, Snooze
from heavylift.core.job import Error
from heavylift.core.retry import Exponential, Fixed, Retry
from heavylift.core.task import Task
from heavylift.core.units import Duration, seconds
from heavylift.executors.wire import Kind

if TYPE_CHECKING:
    from heavylift.executors.limits import Met

MESSAGE_LIMIT = 8 * 1024
TRACEBACK_LIMIT = 32 * 1024

Answer = tuple[Kind, bytes]

_OWN_FOLDER = __file__.rpartition("/")[0] + "/"
_UNFINISHED = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


def returned(task: Task, value: Any, limit: int) -> Answer:
    """The task returned `value`; its JSON may take `limit` bytes."""
    if isinstance(value, _UNFINISHED):
        kind = type(value).__name__.replace("_", " ")
        if isinstance(value, types.CoroutineType):
            value.close()
        message = f"The task returned a {kind}, whose code never ran; return its values, such as list(…)."
        return failed(Error("unserialisable-result", message), retryable=False)
    try:
        data = task.encode_result(value)
    except BaseException as error:  # noqa: BLE001  a serialiser is user code
        message = f"The result cannot be written as JSON: {text_of(error)}"
        return failed(Error("unserialisable-result", message), retryable=False)
    if len(data) > limit:
        message = (
            f"The result takes {len(data):,} bytes, the limit is {limit:,}."
            " Store the data elsewhere and return a reference to it, or raise max_result."
        )
        return failed(Error("result-too-large", message), retryable=False)
    return Kind.SUCCEEDED, data


class Refused(Exception):
    """What the task returned is no result; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("the result was refused")
        self.answer = answer


def accepted(task: Task, value: Any, limit: int) -> Answer:
    """Like `returned`, but raises Refused: what was provided for the task sees that, and commits nothing."""
    answer = returned(task, value, limit)
    if answer[0] is not Kind.SUCCEEDED:
        raise Refused(answer)
    return answer


def raised(task: Task, error: BaseException, failures: int, met: Met | None = None) -> Answer:
    """The task raised, because it `met` a limit perhaps; `failures` counts this one too."""
    if isinstance(error, Snooze):
        try:
            return Kind.SNOOZED, codec.encode(seconds(cast("Duration", error.delay), "Snooze"))
        except ConfigError as wrong:
            failure = Error("failed", str(wrong), "heavylift.Snooze", traceback_of(error))
            return failed(failure, retryable=False)
    retryable, delay, note = _policy(task.options.retry, error, failures)
    code = "gave-up" if isinstance(error, GiveUp) else "failed"
    message = text_of(error)
    if met is not None:
        code, message = met.code, f"{message}: {met.text}"
    if isinstance(error, Cancelled):
        message = "the task raised Cancelled, though nobody asked it to stop"
    return failed(Error(code, message + note, _name_of(error), traceback_of(error)), retryable=retryable, delay=delay)


def unknown(task: str) -> Answer:
    """There is no task of that name."""
    message = f"There is no task {task!r} in this version of the application."
    return failed(Error("unknown-task", message), retryable=False)


def unfit(error: BaseException) -> Answer:
    """The stored arguments do not fit the task."""
    message = str(error) if isinstance(error, InvalidArguments) else text_of(error)
    return failed(Error("invalid-arguments", message, _name_of(error)), retryable=False)


def failed(error: Error, *, retryable: bool, delay: float | None = None) -> Answer:
    """The attempt failed."""
    data = {"error": asdict(error), "retryable": retryable, "delay": delay}
    return Kind.FAILED, codec.encode(data)


def text_of(error: BaseException) -> str:
    """What an exception says, whatever its `__str__` does."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  a hostile or broken exception
        return f"<{_name_of(error)}: its text cannot be made>"
    if isinstance(error, SystemExit | KeyboardInterrupt):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return _clean(text, MESSAGE_LIMIT) or _name_of(error)


def _policy(retry: Retry, error: BaseException, failures: int) -> tuple[bool, float | None, str]:
    """(retryable, delay, a note for the error's message) as the task's retry policy has it."""
    try:
        if isinstance(error, GiveUp):
            return False, None, ""
        if isinstance(error, RetryLater):
            return True, None if error.delay is None else seconds(cast("Duration", error.delay), "RetryLater"), ""
        if not retry.covers(error):
            return False, None, ""
        if isinstance(retry.delay, Exponential | Fixed):
            return True, None, ""
        wish = retry.delay(failures, error)
        return (False, None, "") if wish is None else (True, seconds(wish), "")
    except BaseException as wrong:  # noqa: BLE001  the policy is user code too
        return True, None, f" (its retry policy raised {_name_of(wrong)}: {text_of(wrong)}; the default delay is used)"


def _name_of(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def traceback_of(error: BaseException) -> str:
    """The traceback as text, without its first frames, which are the host's own."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        frames = frames.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:  # noqa: BLE001  it asks the exception, and what led to it, for their texts
        return f"<the traceback of {_name_of(error)} cannot be made>"
    return _clean(text, TRACEBACK_LIMIT)


def stack_of(error: BaseException) -> str:
    """Where the task was when this was raised in it, without the frames that are the host's own."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(_OWN_FOLDER)]
    return _clean("Traceback (most recent call last):\n" + "".join(traceback.format_list(frames)), TRACEBACK_LIMIT)


def _clean(text: str, limit: int) -> str:
    """Text that JSON can hold, with its middle cut out if it is longer than `limit`."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n… {len(text) - limit:,} characters left out …\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()
