"""Wrong uses of tasks: both type checkers report every line that is marked, and no other."""

from heavylift import Context, Handle, Heavylift, Retry

lift = Heavylift("sqlite:///x.db")


@lift.task(timeout="10m", queue="reports")
def build(ctx: Context, customer_id: int, year: int = 2026) -> list[int]:
    """A function with a context."""
    ctx.progress(customer_id, year)
    return [customer_id]


@lift.task
async def send(address: str, *, copy: bool = False) -> str:
    """A coroutine function without a context."""
    return address * (2 if copy else 1)


def takes_text(text: str) -> None:
    """Something to hand a result to."""
    text.strip()


async def wrong_arguments() -> None:
    """The arguments are those of the function, without its context."""
    await build.submit("seven")  # error
    await build.submit()  # error
    await build.submit(7, 2025, 1)  # error
    await build.submit(7, month=3)  # error
    await build.submit(Context.fake(), 7)  # error
    await send.submit("me", True)  # error
    await send.submit(b"me")  # error


async def wrong_arguments_after_options() -> None:
    """Options leave the arguments checked."""
    await build.using(priority=5).submit("seven")  # error
    await send.using(queue="slow").submit()  # error


async def options_among_arguments() -> None:
    """Options are not mixed with the function's own arguments."""
    await build.submit(7, priority=5)  # error
    await send.submit("me", timeout="5m")  # error


async def wrong_results() -> None:
    """A result is what the function returns."""
    handle = await build.submit(7)
    takes_text(await handle.result())  # error
    takes_text(await handle.result(timeout="5m"))  # error
    takes_text(handle.result())  # error
    await handle.result(timeout=[5])  # error
    other: Handle[str] = await build.submit(7)  # error
    takes_text(await other.result())
    takes_text(build.submit(7))  # error


async def wrong_batches() -> None:
    """A batch is a list of tuples of arguments, its answer a list of handles."""
    await build.submit_many([7, 8])  # error
    await build.submit_many(7)  # error
    takes_text(await send.submit_many([("me",)]))  # error


async def wrong_calls() -> None:
    """A plain call passes the context."""
    build(7)  # error
    build(Context.fake(), "seven")  # error
    takes_text(build(Context.fake(), 7))  # error
    takes_text(send("me"))  # error
    await send(7)  # error


def wrong_arguments_without_a_loop() -> None:
    """The same arguments as with one."""
    build.submit_sync("seven")  # error
    build.submit_sync(7, priority=5)  # error
    takes_text(lift.sync.result(build.submit_sync(7)))  # error
    takes_text(lift.sync.get("id"))  # error


def report_on(ctx: Context, customer_id: int) -> list[int]:
    """A function that is not decorated."""
    ctx.progress(1, 1)
    return [customer_id]


defined = lift.define("report-on").options(timeout="30m").handler(report_on)
lift.define("a").options(timeot="30m")  # error
lift.define("b").provide(number=7)  # error
lift.define("c").handler(7)  # error


async def wrong_uses_of_a_defined_task() -> None:
    """The builder's tasks are checked as the decorator's."""
    await defined.submit("seven")  # error
    takes_text(await (await defined.submit(7)).result())  # error


def wrong_steps(ctx: Context) -> None:
    """Steps and submits from within have the function's own arguments."""
    ctx.submit(build, "seven")  # error
    ctx.submit(report_on, 7)  # error
    takes_text(ctx.step("one", report_on, ctx, 7))  # error
    ctx.step("two", report_on, ctx, "seven")  # error


async def wrong_words() -> None:
    """What is not there is not there."""
    await build.enqueue(7)  # error
    takes_text(build.rows)  # error


@lift.task(retry=Retry("often"))  # error
def retried() -> None:
    """A wrong policy."""


@lift.task(timeot="10m")  # error
def misspelt() -> None:
    """An option that does not exist."""


async def wrong_options() -> None:
    """Options have names and types."""
    build.using(prioritie=5)  # error
    build.using(priority="high")  # error
    build.using(id=7)  # error
    build.using(on_conflict="ignore")  # error
    build.using(limits=["5/s"])  # error
    build.using(on_exhausted=takes_text)  # error


async def wrong_operations() -> None:
    """Limits and moves have names and types."""
    await lift.set_queue("mail", concurency=2)  # error
    await lift.set_queue("mail", rate=50)  # error
    await lift.pause("mail", why="the mail server is down")  # error
    handle = await build.submit(7)
    await handle.move(priority="high")  # error
    await handle.move(later="5m")  # error
    takes_text(build.submit_many_sync([(7,)], return_exceptions=True)[0])  # error
