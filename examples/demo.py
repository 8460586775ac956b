"""Heavylift in one file: `python -m examples.demo [--port 8000] [--store sqlite:///demo.db]`.

Three tasks: one that takes a while and says how far it is, one that never ends by itself, and one that fails twice
and goes on from where it was.
"""

import argparse
import sys
import time

from heavylift import ConfigError, Context, Heavylift, Retry, fixed

lift = Heavylift("sqlite:///demo.db")


@lift.task
def count_primes(ctx: Context, limit: int = 3_000_000) -> int:
    """How many primes there are below `limit`, found by a sieve in slices."""
    root = int(limit**0.5) + 1
    small = [n for n in range(2, root) if all(n % d for d in range(2, int(n**0.5) + 1))]
    found = 0
    size = max(1, limit // 100)
    for low in ctx.track(range(0, limit, size), unit="slices", message=f"sieving up to {limit:,}"):
        high = min(low + size, limit)
        composite = bytearray(high - low)
        for prime in small:
            first = max(prime * prime, -(-low // prime) * prime)
            composite[first - low :: prime] = b"\1" * len(range(first, high, prime)) if first < high else b""
        found += sum(1 for n in range(max(low, 2), high) if not composite[n - low])
    return found


@lift.task(timeout="1h")
def spin(ctx: Context) -> None:
    """Burn a CPU until somebody stops it; its clean-up code runs when that happens."""
    try:
        while True:
            pass
    finally:
        ctx.log.info("cleaned up")


@lift.task(retry=Retry(5, fixed(2)))
def unreliable(ctx: Context, steps: int = 10) -> str:
    """Ten steps of half a second; fails in the fourth and the eighth, and never does a step twice."""
    for step in range(ctx.resume(0), steps):
        if ctx.failures < 2 and step == (3, 7)[ctx.failures]:
            message = f"step {step + 1} failed, as it does the first time"
            raise RuntimeError(message)
        time.sleep(0.5)
        ctx.checkpoint(step + 1)
        ctx.progress(step + 1, steps, unit="steps")
    return f"{steps} steps in {ctx.attempt} attempts"


WHAT_TO_DO = """\
Heavylift demo: {address}   (jobs live in {store}; Ctrl-C stops it)

Type this in another terminal:

  1. Submit a job that takes a while, and watch it. "links" in each answer say where to go on.

     curl -X POST {address}/v1/tasks/count_primes/jobs --json '{{"limit": 50000000}}'
     curl -N {address}/v1/jobs/ID/events
     curl {address}/v1/jobs/ID/result

  2. Submit one that never ends, and stop it. The receipt says what really happened.

     curl -X POST {address}/v1/tasks/spin/jobs
     curl -X POST {address}/v1/jobs/ID/cancel -H 'Prefer: wait=10'

  3. Submit one that fails twice, and goes on from its checkpoint each time.

     curl -X POST {address}/v1/tasks/unreliable/jobs
     curl -N {address}/v1/jobs/ID/events

  The same from the command line:

     export HEAVYLIFT_APP=examples.demo:lift HEAVYLIFT_STORE={store}
     heavylift submit count_primes limit=50000000 --wait
     heavylift jobs

All jobs: {address}/v1/jobs
"""


def main() -> int:
    from heavylift.http.server import serve  # noqa: PLC0415  the processes that run the tasks import no server

    parser = argparse.ArgumentParser(prog="python -m examples.demo")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--store", help="where jobs live, such as sqlite:///demo.db")
    options = parser.parse_args()

    def announce(address: str) -> None:
        print(WHAT_TO_DO.format(address=address, store=lift.store_url), flush=True)

    try:
        if options.store:
            lift.override(store=options.store)
        return serve(lift, "127.0.0.1", options.port, announce=announce)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
