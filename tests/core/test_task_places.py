"""Where a task's jobs run: by its function, and by its options."""

import pytest

from heavylift import Heavylift
from heavylift.core.errors import ConfigError


def plain() -> None: ...


async def coroutine() -> None: ...


async def yields():
    yield 1


@pytest.mark.parametrize(
    ("function", "options", "place"),
    [
        (plain, {}, "process"),
        (plain, {"run_in": "process"}, "process"),
        (plain, {"run_in": "thread"}, "thread"),
        (coroutine, {}, "loop"),
        (coroutine, {"run_in": "loop"}, "loop"),
        (plain, {"memory": "1GiB", "cpu_time": "1m"}, "process"),
        (plain, {"run_in": "thread", "nice": 0}, "thread"),
        (coroutine, {"timeout": "1m", "fresh": True}, "loop"),
    ],
)
def test_the_function_decides_unless_an_option_does(function, options, place):
    assert Heavylift("memory://").task(**options)(function).task.options.run_in == place


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (coroutine, {"run_in": "process"}, "is async and runs in a loop; leave out run_in='process'"),
        (coroutine, {"run_in": "thread"}, "is async and runs in a loop; leave out run_in='thread'"),
        (plain, {"run_in": "loop"}, "is no coroutine, so it cannot run in a loop; give run_in='thread'"),
        (plain, {"run_in": "thread", "memory": "1GiB"}, "memory: it limits a process, which task 'plain' shares"),
        (coroutine, {"cpu_time": "1m"}, "cpu_time: it limits a process, which task 'coroutine' shares"),
        (coroutine, {"processes": 5}, "processes: it limits a process"),
        (coroutine, {"address_space": "1GiB"}, "address_space: it limits a process"),
        (plain, {"run_in": "thread", "open_files": 50}, "open_files: it limits a process"),
        (plain, {"run_in": "thread", "nice": 1}, "nice: it limits a process"),
        (yields, {}, "yields; a task returns its result"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_defined(function, options, said):
    with pytest.raises(ConfigError) as caught:
        Heavylift("memory://").task(**options)(function)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("function", "options"),
    [(coroutine, {"run_in": "thread"}), (coroutine, {"memory": "1GiB"}), (plain, {"run_in": "loop"})],
)
def test_what_does_not_fit_is_refused_for_a_single_job(function, options):
    task = Heavylift("memory://").task(function)
    with pytest.raises(ConfigError, match=r"[Tt]ask '"):
        task.using(**options)


def test_a_function_may_run_elsewhere_for_a_single_job():
    task = Heavylift("memory://").task(plain)
    assert task.using(run_in="thread").options.run_in == "thread"
    assert task.options.run_in == "process"
