"""What hosts write to standard output: kept as a tail, told with a crash, and passed on in bounds."""

from heavylift.core.outcome import Crashed, Succeeded
from heavylift.executor import Application
from heavylift.executors.link import Nanny
from heavylift.executors.output import BURST, RATE
from heavylift.executors.pool import Pool
from heavylift.settings import Settings
from heavylift.testing.executors.cases import ExecutorSuite

TASKS = Application("heavylift.testing.executor_tasks", "application")
LINES, SIZE = 100, 1_000_000


async def test_a_flood_of_output_is_cut_and_says_by_how_much(capfd):
    pool = Pool(await Nanny.start(TASKS), Settings.load({}, concurrency=1))
    await pool.start()
    suite = ExecutorSuite()
    outcome = await suite.ended(pool, "flood", what="output", calls=LINES, size=SIZE)
    assert isinstance(outcome, Crashed)
    stderr = outcome.error.stderr
    assert len(stderr) < 5000
    written = LINES * (SIZE + 1) + len("last words\n")
    assert stderr.startswith(f"… {written - 4096:,} bytes before this are left out …\n")
    assert stderr.endswith("last words\n")
    assert isinstance(await suite.ended(pool, "give"), Succeeded)
    await pool.close(0.0)
    passed_on = capfd.readouterr().err
    assert len(passed_on) < BURST + RATE * (outcome.usage.wall + 5)
    assert "bytes of a host's output are left out here]" in passed_on


async def test_a_crash_tells_what_its_own_job_wrote_and_no_other():
    pool = Pool(await Nanny.start(TASKS), Settings.load({}, concurrency=1))
    await pool.start()
    suite = ExecutorSuite()
    first = await suite.ended(pool, "say", text="of another job")
    assert isinstance(first, Succeeded)
    outcome = await suite.ended(pool, "die", how="exit")
    assert outcome.error.stderr == "last words\n"
    await pool.close(0.0)
