"""Makes small applications, as files, for tests of how they are imported."""

import textwrap

from heavylift.executor import Application
from heavylift.executors.link import Nanny
from heavylift.executors.pool import Pool
from heavylift.settings import Settings

HEAD = """
from heavylift.testing.executor_tasks import Application
lift = Application()
"""


def write(folder, name, body, *, head=HEAD):
    path = folder / f"{name}.py"
    path.write_text(head + textwrap.dedent(body))
    return path


async def nanny_of(folder, name, attribute="lift", imports=()):
    return await Nanny.start(Application(name, attribute, imports, (str(folder),)))


async def pool_of(folder, name, **settings):
    return Pool(await nanny_of(folder, name), Settings.load({}, **({"concurrency": 2} | settings)))
