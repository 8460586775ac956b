"""What goes wrong: kills, stops, outages, clocks, drains, and bad ways to the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.simulation.machine import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.simulation.clients import Clients
    from tests.simulation.world import Member, World

STORM = 30.0
"""Seconds within which faults begin."""
INSTANT = 1e-6
OFTEN = ("kill", "kill", "kill all", "stop", "stall", "freeze", "outage", "cut", "drain", "jump", "skew", "suspend")


class Faults:
    """A few of them for each schedule, at random moments, some at once."""

    def __init__(self, world: World, clients: Clients, only: str | None) -> None:
        self._world = world
        self._clients = clients
        self._random = world.random
        self._only = only

    async def storm(self) -> None:
        """Let it all happen, and leave the world in order: everybody runs, everything can be reached."""
        world, chance = self._world, self._random
        self._weather()
        self._clients.begin(STORM)
        begun = [
            world.loop.root.start(self._at(chance.random() * STORM, self._faults[self._only or chance.choice(OFTEN)]))
            for _ in range(chance.randint(1, 3) if self._only else chance.randint(0, 5))
        ]
        await asyncio.sleep(STORM)
        if begun:
            await asyncio.gather(*begun)
        self._clear()

    @property
    def _faults(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "kill": self._kill,
            "kill all": self._kill_all,
            "stop": self._stop,
            "stall": self._stall,
            "freeze": self._freeze,
            "outage": self._outage,
            "cut": self._cut,
            "drain": self._drain,
            "jump": self._jump,
            "skew": self._skew,
            "suspend": self._suspend,
        }

    async def _at(self, moment: float, fault: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(moment)
        await fault()

    def _weather(self) -> None:
        weather, chance = self._world.weather, self._random
        weather.latency = chance.choice((0.0005, 0.005, 0.1))
        weather.slow = chance.choice((0.0, 0.0, 0.05))
        weather.fails = chance.choice((0.0, 0.0, 0.05, 0.2))
        weather.lost = chance.choice((0.0, 0.0, 0.05, 0.2))
        weather.late = chance.choice((0.0, 0.0, 0.0, 0.05))
        self._world.database.hints.lost = chance.choice((0.0, 0.2, 1.0))
        self._world.database.hints.slowest = chance.choice((0.01, 2.0))

    def _clear(self) -> None:
        world, weather = self._world, self._world.weather
        weather.fails = weather.lost = weather.late = weather.slow = 0.0
        weather.outage = False
        weather.cut.clear()
        world.database.hints.lost = 0.0
        # Somebody puts all clocks right: to the latest, so that nobody waits for an hour that was there already.
        world.machine.jumped = world.latest
        world.skewed = False
        for slot, member in enumerate(world.members):
            if member is None:
                world.start(slot)
            else:
                member.clock.skew = 0.0

    def _member(self) -> Member | None:
        living = [member for member in self._world.members if member is not None]
        return self._random.choice(living) if living else None

    async def _kill(self) -> None:
        if member := self._member():
            await self._die([member])

    async def _kill_all(self) -> None:
        await self._die([member for member in self._world.members if member])

    async def _die(self, members: list[Member]) -> None:
        world = self._world
        for member in members:
            world.machine.note("kills", member.process.name)
            member.process.kill()
            world.gone(member)
        await asyncio.sleep(self._random.choice((0.0, 1.0, 25.0)) * self._random.random())
        for member in members:
            if world.members[member.slot] is None:
                world.start(member.slot)

    async def _stop(self) -> None:
        if member := self._member():
            await self._pause(
                [member], self._random.choice((3.0, 16.0, 30.0)) * (0.9 + self._random.random() / 5), hosts=False
            )

    async def _stall(self) -> None:
        """Stop a process while its claim is on its way: to a full queue, long after the worker was declared dead."""
        if member := self._member():
            end = self._world.loop.time() + 5
            while "claim" not in member.link.on_the_way and self._world.loop.time() < end:
                await asyncio.sleep(0.002)
            length = self._random.choice((16.0, 30.0)) * (1 + self._random.random() / 10)
            self._world.loop.root.start(self._at(length - self._random.random(), self._clients.rush))
            await self._pause([member], length, hosts=False)

    async def _freeze(self) -> None:
        members = [member for member in self._world.members if member]
        await self._pause(members, self._random.choice((3.0, 30.0)), hosts=True)

    async def _pause(self, members: list[Member], length: float, *, hosts: bool) -> None:
        """Stop processes for a while; with their `hosts` it is as if the machine itself stood still."""
        world = self._world
        paused = [member for member in members if not member.process.stopped]
        for member in paused:
            world.machine.note("stops", member.process.name, f"for {length:.1f} s", "with all" if hosts else "")
            for process in (member.process, *(member.process.children if hosts else ())):
                process.stop()
            member.link.stops += 1
        await asyncio.sleep(length)
        for member in paused:
            member.stood_still += length
            if not member.process.killed:
                world.machine.note("continues", member.process.name)
                member.link.trouble = world.loop.time()
                if length > SETTINGS.lease * 2 / 3:
                    # It is noticed before anything else is done, which a call that just failed need not be.
                    member.link.contact = world.loop.time() - INSTANT
                for process in (member.process, *member.process.children):
                    process.proceed()

    async def _outage(self) -> None:
        world = self._world
        world.machine.note("the store is away")
        world.weather.outage = True
        await asyncio.sleep(self._random.choice((2.0, 20.0, 30.0)) * (0.5 + self._random.random() / 2))
        world.weather.outage = False
        world.machine.note("the store is back")

    async def _cut(self) -> None:
        if member := self._member():
            world = self._world
            world.machine.note("cuts off", member.process.name)
            world.weather.cut.add(member.process.name)
            await asyncio.sleep(self._random.choice((2.0, 30.0)) * (0.5 + self._random.random() / 2))
            world.weather.cut.discard(member.process.name)
            world.machine.note("reconnects", member.process.name)

    async def _jump(self) -> None:
        self._move_clock(self._random.uniform(-3600, 3600))

    async def _suspend(self) -> None:
        # Monotonic time stands still while the machine sleeps, so all that anybody notices is the wall clock.
        self._move_clock(self._random.uniform(1, 8 * 3600))

    def _move_clock(self, seconds: float) -> None:
        world = self._world
        world.machine.jumped += seconds
        ahead = max((member.clock.skew for member in world.members if member), default=0.0)
        world.latest = max(world.latest, world.machine.jumped + max(0.0, ahead))
        world.machine.note(f"the clock jumps by {seconds:+.0f} s")

    async def _skew(self) -> None:
        if member := self._member():
            member.clock.skew = self._random.uniform(-600, 600)
            self._world.latest = max(self._world.latest, self._world.machine.jumped + member.clock.skew)
            self._world.machine.note("the clock of", member.process.name, f"is off by {member.clock.skew:+.0f} s")

    async def _drain(self) -> None:
        if member := self._member():
            world = self._world
            grace = self._random.choice((0.0, 1.0, 20.0))
            world.machine.note("drains", member.process.name, f"within {grace:g} s")
            member.worker.drain(grace)
            if self._random.random() < 0.2:
                await asyncio.sleep(self._random.random())
                member.worker.drain()
            await world.ends(member, grace)
            if world.members[member.slot] is None:
                world.start(member.slot)
