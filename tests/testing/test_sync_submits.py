"""The fixtures in tests without a loop, whose code under test submits by `submit_sync` and `lift.sync`."""

from tests.testing.test_plugin import project, run

pytest_plugins = ["pytester"]

__all__ = ["project"]


def test_code_without_a_loop_is_tested_on_an_empty_store_each_time(project):
    run(
        project,
        """
        import pytest
        from app import build_report, lift, sync_account

        @pytest.mark.parametrize("number", range(3))
        def test_drain(lift_env, number):
            assert not list(lift.sync.find())
            handle = build_report.submit_sync(number)
            assert lift_env.submitted(build_report, customer_id=number)
            lift_env.drain()
            assert lift.sync.result(handle, timeout=10)["customer"] == number
            assert lift_env.result(handle)["customer"] == number

        def test_virtual_time(lift_env):
            lift_env.fail_next(sync_account, ConnectionError, times=2)
            handle = sync_account.submit_sync(4)
            lift_env.advance("10s")
            assert lift.sync.result(handle) == 8
            assert lift_env.job(handle).attempt == 3

        async def test_async_between(lift_env):
            await build_report.submit(1)
            lift_env.drain()
            assert lift_env.result(build_report)["customer"] == 1

        def test_after(lift_env):
            assert not list(lift.sync.find())
        """,
        passed=6,
    )


def test_a_job_that_submits_another_is_drained_with_it(project):
    project.makepyfile(
        family="""
        from heavylift import Context, Heavylift

        lift = Heavylift("sqlite:///production.db")

        @lift.task
        def child(number: int) -> int:
            return number

        @lift.task
        def parent(ctx: Context) -> str:
            return ctx.submit(child, 7).id
        """
    )
    run(
        project,
        """
        import pytest
        from family import child, parent

        pytestmark = pytest.mark.heavylift_app("family:lift")

        def test_sync(lift_env):
            parent.submit_sync()
            assert [job.task for job in lift_env.drain()] == ["parent", "child"]
            assert lift_env.result(parent) == lift_env.job(child).id

        async def test_async(lift_env):
            await parent.submit()
            lift_env.drain()
            assert lift_env.result(child) == 7

        def test_real(lift_env_real):
            parent.submit_sync()
            lift_env_real.wait(parent)
            assert lift_env_real.wait(child).options.labels["parent"] == lift_env_real.job(parent).id
        """,
        passed=3,
    )
