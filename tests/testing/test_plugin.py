"""The pytest plugin, as its users see it: small applications, and pytest in a process of its own."""

import pytest

pytest_plugins = ["pytester"]
# Each test starts pytest, and some that starts workers: on a busy machine that takes its time.
pytestmark = pytest.mark.timeout(300)

UNUSED = ("cacheprovider", "hypothesispytest", "xdist")
"""Plugins that only cost time."""

APP = """
from heavylift import Context, Heavylift, Retry, exponential
from heavylift import GiveUp, RetryLater, Snooze

lift = Heavylift("sqlite:///production.db")
calls = []

@lift.task
def build_report(customer_id: int, year: int = 2026) -> dict[str, int]:
    return {"customer": customer_id, "year": year}

@lift.task(retry=Retry(3, exponential(2)))
def sync_account(ctx: Context, number: int) -> int:
    calls.append((number, ctx.attempt))
    return number * 2

@lift.task
def import_rows(ctx: Context, count: int) -> list[int]:
    first = ctx.resume(0)
    for row in range(first, count):
        ctx.progress(row + 1, count)
        ctx.checkpoint(row + 1)
    return [first, count]
"""


@pytest.fixture
def project(pytester):
    """A project of a user: an application, and pytest's settings."""
    pytester.makepyfile(app=APP)
    pytester.makeini(
        """
        [pytest]
        pythonpath = .
        heavylift_app = app:lift
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
        filterwarnings = error
        """
    )
    return pytester


def run(project, code, *, passed=0, **outcomes):
    """Run a test file in a process of its own."""
    project.makepyfile(test_it=code)
    result = project.runpytest_subprocess(*(f"-pno:{name}" for name in UNUSED))
    result.assert_outcomes(passed=passed, **outcomes)
    return result


def test_what_was_submitted_is_seen_run_and_read_in_an_async_test(project):
    run(
        project,
        """
        from app import build_report

        async def test_it(lift_env):
            await build_report.submit(7)
            assert lift_env.submitted(build_report, customer_id=7)
            assert lift_env.submitted(build_report, year=2026)
            assert not lift_env.submitted(build_report, customer_id=8)
            assert lift_env.job(build_report).state == "queued"
            ran = lift_env.drain()
            assert [job.state for job in ran] == ["succeeded"]
            assert lift_env.result(build_report) == {"customer": 7, "year": 2026}
            assert lift_env.drain() == []

        async def test_handles_work_too(lift_env):
            handle = await build_report.submit(1)
            lift_env.drain()
            assert await handle.result(timeout=10) == {"customer": 1, "year": 2026}
            assert lift_env.job(handle).attempt == 1
            assert len([event async for event in handle.events()]) == 3
        """,
        passed=2,
    )
    assert not (project.path / "production.db").exists()


def test_an_application_behind_http_is_tested_without_a_loop_of_ones_own(project):
    run(
        project,
        """
        import psutil
        import pytest
        from app import build_report, lift
        from fastapi import FastAPI
        from fastapi.testclient import TestClient

        app = FastAPI(lifespan=lift.lifespan)

        @app.post("/reports")
        async def report(customer_id: int):
            return {"id": (await build_report.submit(customer_id)).id}

        app.mount("/jobs", lift.asgi("api"))

        def test_with_lifespan(lift_env):
            with TestClient(app) as client:
                assert psutil.Process().children() == []
                name = client.post("/reports", params={"customer_id": 7}).json()["id"]
                assert lift_env.submitted(build_report, customer_id=7)
                lift_env.drain()
                assert lift_env.job(build_report).id == name
                shown = client.get(f"/jobs/v1/jobs/{name}").json()
                assert shown["state"] == "succeeded"
            assert lift_env.result(build_report)["customer"] == 7

        @pytest.mark.parametrize("number", range(3))
        def test_again_on_an_empty_store(lift_env, number):
            client = TestClient(app)
            assert not lift_env.submitted(build_report)
            made = client.post("/jobs/v1/tasks/build_report/jobs", json={"customer_id": number})
            assert made.status_code == 202
            lift_env.drain()
            assert lift_env.result(build_report)["customer"] == number
        """,
        passed=4,
    )


def test_time_is_virtual_and_retries_follow_their_backoff(project):
    run(
        project,
        """
        import pytest
        from app import calls, sync_account
        from heavylift import JobFailed

        async def test_delays(lift_env):
            await sync_account.using(delay="10m").submit(1)
            assert lift_env.drain() == []
            lift_env.advance("9m")
            assert lift_env.job(sync_account).state == "queued"
            [job] = lift_env.advance("1m")
            assert job.state == "succeeded"
            assert job.started_at == job.run_at

        async def test_backoff(lift_env):
            lift_env.fail_next(sync_account, ConnectionError("away"), times=2)
            calls.clear()
            await sync_account.submit(1)
            began = lift_env.clock.wall()
            ran = lift_env.advance("10s")
            assert [job.state for job in ran] == ["queued", "queued", "succeeded"]
            assert [round(job.run_at - began, 6) for job in ran] == [2, 6, 6]
            assert ran[0].error.message == "away"
            assert calls == [(1, 3)]
            assert lift_env.clock.wall() == pytest.approx(began + 10)

        async def test_the_clock_alone(lift_env):
            lift_env.fail_next(sync_account, ConnectionError)
            await sync_account.submit(1)
            lift_env.drain()
            assert lift_env.drain() == []
            lift_env.clock.advance("2s")
            assert [job.attempt for job in lift_env.drain()] == [2]

        async def test_until_it_fails(lift_env):
            lift_env.fail_next(sync_account, ConnectionError("away"), times=9)
            await sync_account.submit(1)
            lift_env.advance("1h")
            with pytest.raises(JobFailed, match="away"):
                lift_env.result(sync_account)
            assert lift_env.job(sync_account).failures == 3
        """,
        passed=4,
    )


def test_a_failing_assertion_says_what_there_was_instead(project):
    result = run(
        project,
        """
        from app import build_report

        async def test_wrong(lift_env):
            await build_report.submit(8)
            assert lift_env.submitted(build_report, customer_id=7)

        async def test_two(lift_env):
            await build_report.submit_many([(1,), (2,)])
            lift_env.job(build_report)

        async def test_typo(lift_env):
            assert not lift_env.submitted(build_report, custmer_id=7)

        async def test_not_over(lift_env):
            await build_report.submit(1)
            lift_env.result(build_report)
        """,
        failed=4,
    )
    result.stdout.fnmatch_lines_random(
        [
            "*no job of build_report(customer_id=7); there is: build_report(customer_id=8) queued*",
            "*exactly one job was expected: <2 of build_report(): build_report(customer_id=1) queued,*",
            "*has no argument 'custmer_id'. Did you mean 'customer_id'?*",
            "*build_report(customer_id=1) queued is not over*",
        ]
    )


def test_task_code_runs_where_it_finds_no_loop_and_async_tasks_find_one(project):
    project.makepyfile(
        tasks="""
        import asyncio, threading
        from heavylift import Heavylift

        lift = Heavylift("sqlite:///production.db")

        @lift.task
        def own_loop() -> str:
            async def inner():
                return threading.current_thread().name
            return asyncio.run(inner())
        """
    )
    run(
        project,
        """
        import pytest
        from tasks import own_loop, lift
        from fastapi.testclient import TestClient

        pytestmark = pytest.mark.heavylift_app("tasks:lift")

        def test_sync(lift_env):
            TestClient(lift.asgi("api")).post("/v1/tasks/own_loop/jobs")
            lift_env.drain()
            assert lift_env.result(own_loop) == "MainThread"

        async def test_async(lift_env):
            await own_loop.submit()
            lift_env.drain()
            assert lift_env.result(own_loop) != "MainThread"

        @pytest.mark.anyio
        async def test_anyio(lift_env):
            await own_loop.submit()
            lift_env.drain()
            assert lift_env.result(own_loop)
        """,
        passed=3,
    )


PLACES = """
import asyncio
from heavylift import Context, Heavylift

lift = Heavylift("sqlite:///production.db")

async def loop(ctx: Context, count: int) -> list[int]:
    first = ctx.resume(0)
    for row in range(first, count):
        ctx.checkpoint(row + 1)
        ctx.progress(row + 1, count)
        await asyncio.sleep(0)
    return [first, count]

def thread(ctx: Context, count: int) -> list[int]:
    return asyncio.run(loop(ctx, count))

in_loop = lift.task(loop)
in_thread = lift.task(run_in="thread")(thread)
in_process = lift.task(name="process")(thread)
"""


def test_turns_in_a_rate_do_not_wait_and_jobs_behind_one_come_when_time_passes(project):
    project.makepyfile(
        limited="""
        from heavylift import Context, Heavylift, Rate

        lift = Heavylift("sqlite:///production.db")

        @lift.task
        def call(ctx: Context) -> int:
            for _ in range(3):
                with ctx.limit("crm", "1/h"):
                    pass
            return 3

        @lift.task(limits=[Rate("1/m", key="import")])
        def load() -> None:
            pass
        """
    )
    run(
        project,
        """
        import pytest
        from limited import call, lift, load

        pytestmark = pytest.mark.heavylift_app("limited:lift")

        def test_it(lift_env):
            call.submit_sync()
            for _ in range(3):
                load.submit_sync()
            assert [job.task for job in lift_env.drain()] in (["call", "load"], ["load", "call"])
            assert [job.task for job in lift_env.advance("90s")] == ["load"]
            assert [job.task for job in lift_env.advance("90s")] == ["load"]
        """,
        passed=1,
    )


def test_coroutines_and_threads_are_run_too(project):
    project.makepyfile(places=PLACES)
    run(
        project,
        """
        import pytest
        from places import in_loop, in_process, in_thread, lift
        from fastapi.testclient import TestClient

        pytestmark = pytest.mark.heavylift_app("places:lift")
        TASKS = (in_loop, in_process, in_thread)

        async def test_async(lift_env):
            for task in TASKS:
                await task.submit(3)
            ran = lift_env.drain()
            assert [job.state for job in ran] == ["succeeded"] * 3
            assert [lift_env.result(task) for task in TASKS] == [[0, 3]] * 3

        def test_sync(lift_env):
            client = TestClient(lift.asgi("api"))
            for task in TASKS:
                client.post(f"/v1/tasks/{task.name}/jobs", json={"count": 3})
            lift_env.fail_next(in_loop, ConnectionError)
            lift_env.advance("2s")
            assert [lift_env.job(task).attempt for task in TASKS] == [2, 1, 1]
            assert [lift_env.result(task) for task in TASKS] == [[0, 3]] * 3

        @pytest.mark.parametrize("when", ["start", "checkpoint:2", "progress:60"])
        @pytest.mark.parametrize("task", [in_loop, in_thread], ids=["loop", "thread"])
        async def test_real(lift_env_real, when, task):
            lift_env_real.kill_host(task, when=when)
            handle = await task.submit(3)
            resumed = {"start": 0, "checkpoint:2": 2, "progress:60": 2}[when]
            assert await handle.result(timeout="50s") == [resumed, 3]
            assert (await handle.refresh()).crashes == 1
        """,
        passed=8,
    )


def test_what_is_meant_for_the_test_reaches_it(project):
    project.makepyfile(
        tasks="""
        import pytest
        from heavylift import Heavylift, Snooze

        lift = Heavylift("sqlite:///production.db")

        @lift.task
        def fails_the_test(word: str) -> None:
            pytest.fail(word)

        @lift.task
        def never_ends() -> None:
            raise Snooze(0)
        """
    )
    result = run(
        project,
        """
        import pytest
        from tasks import fails_the_test, never_ends

        pytestmark = pytest.mark.heavylift_app("tasks:lift")

        async def test_fail(lift_env):
            await fails_the_test.submit("from within")
            lift_env.drain()

        async def test_endless(lift_env):
            await never_ends.submit()
            lift_env.drain()
        """,
        failed=2,
    )
    result.stdout.fnmatch_lines_random(
        ["*Failed: from within*", "*1000 attempts were made and jobs are still due; the next one is of 'never_ends'*"]
    )


def test_the_application_has_to_be_named(pytester):
    pytester.makepyfile(app="lift = 1", test_it="def test_it(lift_env): pass")
    for line, message in {
        "": "*Which application is tested?*",
        "heavylift_app = app:lift": "*is a int, not a Heavylift*",
        "heavylift_app = nothing:lift": "*cannot be imported: No module named 'nothing'*",
    }.items():
        pytester.makeini(f"[pytest]\npythonpath = .\n{line}\n")
        result = pytester.runpytest_subprocess()
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines([message])


def test_a_fixture_of_ones_own_names_the_application(project):
    run(
        project,
        """
        import pytest
        from heavylift import Heavylift

        @pytest.fixture
        def heavylift_app():
            lift = Heavylift()

            @lift.task
            def double(number: int) -> int:
                return 2 * number

            return lift

        async def test_it(heavylift_app, lift_env):
            double = heavylift_app.find_task("double")
            await double.submit(4)
            lift_env.drain()
            assert lift_env.result(double) == 8
        """,
        passed=1,
    )


def test_the_store_has_to_be_closed_before(project):
    result = run(
        project,
        """
        import pytest
        from app import lift

        @pytest.fixture
        async def opened():
            async with lift:
                yield

        async def test_it(opened, lift_env):
            pass
        """,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*The store is open already*"])


def test_the_plugin_loads_nothing_until_it_is_used(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_it():
            loaded = [name for name in sys.modules if name.startswith("heavylift")]
            assert sorted(loaded) == ["heavylift", "heavylift.testing", "heavylift.testing.plugin"]
            assert "pydantic" not in sys.modules
            assert "sqlite3" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesis", "-p", "no:cov").assert_outcomes(passed=1)


@pytest.mark.parametrize("when", ["start", "checkpoint:3", "progress:50"])
def test_a_real_host_is_killed_at_the_very_moment(project, when):
    run(
        project,
        f"""
        from app import import_rows

        async def test_it(lift_env_real):
            lift_env_real.kill_host(import_rows, when={when!r})
            handle = await import_rows.using(crashes=3).submit(10)
            resumed = {{"start": 0, "checkpoint:3": 3, "progress:50": 4}}[{when!r}]
            assert await handle.result(timeout="50s") == [resumed, 10]
            job = lift_env_real.job(handle)
            assert (job.attempt, job.crashes) == (2, 1)
            events = [event async for event in handle.events()]
            [crashed] = [event.data for event in events if event.data.get("outcome") == "crashed"]
            assert crashed["error"]["signal"] == "SIGKILL"
            assert lift_env_real.result(import_rows) == [resumed, 10]
        """,
        passed=1,
    )


def test_one_job_is_killed_and_its_neighbour_is_not(project):
    run(
        project,
        """
        from app import import_rows, lift

        def test_it(lift_env_real):
            from fastapi.testclient import TestClient

            with TestClient(lift.asgi()) as client:
                client.patch("/v1/queues/default", json={"paused": True})
                names = [
                    client.post("/v1/tasks/import_rows/jobs", json={"count": count}).json()["id"] for count in (5, 6)
                ]
                lift_env_real.kill_host(lift_env_real.job(import_rows, count=5), when="checkpoint:5")
                client.patch("/v1/queues/default", json={"paused": False})
            jobs = [lift_env_real.wait(import_rows, count=count) for count in (5, 6)]
            assert [job.id for job in jobs] == names
            assert [job.crashes for job in jobs] == [1, 0]
            assert lift_env_real.result(jobs[0]) == [5, 5]
        """,
        passed=1,
    )


def test_a_kill_that_never_came_fails_the_test(project):
    result = run(
        project,
        """
        import pytest
        from app import build_report, import_rows
        from heavylift import ConfigError

        async def test_it(lift_env_real):
            lift_env_real.kill_host(import_rows, when="checkpoint:3")
            handle = await import_rows.submit(2)
            await handle.result(timeout="50s")

        async def test_words(lift_env_real):
            for when in ("", "checkpoint:0", "checkpoint", "progress:101", "end", "start:1"):
                with pytest.raises(ConfigError, match="no moment"):
                    lift_env_real.kill_host(import_rows, when=when)
        """,
        passed=2,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*No host was killed that ran import_rows at 'checkpoint:3'*"])


def test_an_application_in_a_test_file_is_found_by_the_real_worker(pytester):
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib\nasyncio_mode = auto\n")
    folder = pytester.mkdir("checks")
    (folder / "test_own.py").write_text(
        "import pytest\n"
        "from heavylift import Heavylift\n"
        "lift = Heavylift()\n"
        "@lift.task\n"
        "def double(number: int) -> int:\n"
        "    return 2 * number\n"
        "@pytest.fixture\n"
        "def heavylift_app():\n"
        "    return lift\n"
        "async def test_it(lift_env_real):\n"
        "    assert await (await double.submit(4)).result(timeout=50) == 8\n"
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
