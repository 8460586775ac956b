"""An explicit-state model checker: every state that a protocol can reach, breadth first.

A protocol is a first state, and a function from a state to the steps that may follow. States are hashable and never
change; `key` names those that are the same but for names, of which one is explored. Three questions are answered:

- *Safety*: does a step break an invariant? A step says so itself; breadth first makes its trace a shortest one.
- *Completeness*: was nothing left to explore? A search that met its limit has proved nothing.
- *Liveness*: is there, from every state, a way to the goal on which nothing more goes wrong? A state without one is a
  deadlock or a livelock, whatever is tried from there.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Step(NamedTuple):
    """What may happen next, in words, and the state after it. `fault`: it may as well never happen.
    `broken`: the invariant that it breaks, in words.
    """

    label: str
    after: Any
    fault: bool = False
    broken: str | None = None


@dataclass(frozen=True)
class Checked:
    """What a search found. `complete`: nothing was left to explore. `broken`: in words; `trace`: the way there."""

    states: int
    transitions: int
    depth: int
    complete: bool
    broken: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = f"{self.states} states, {self.transitions} transitions, {self.depth} steps deep"
        if self.broken is None:
            return counts + (", complete" if self.complete else ", NOT complete")
        lines = [f"{number:4}  {label}" for number, label in enumerate(self.trace, 1)]
        return "\n".join([f"{self.broken} ({counts})", *lines])


class Search:
    """The states that were reached, by number, and how."""

    def __init__(self) -> None:
        self.numbers: dict[Hashable, int] = {}
        self.labels: list[str] = []
        self.parents = array("l")
        self.sources, self.targets = array("l"), array("l")
        """The steps that are no faults: all that liveness may rely on."""
        self.goals: list[int] = []
        self.transitions = 0

    def number(self, key: Hashable, parent: int, label: str) -> tuple[int, bool]:
        """The number of a state, and whether it is a new one."""
        number = self.numbers.setdefault(key, len(self.labels))
        new = number == len(self.labels)
        if new:
            self.labels.append(label)
            self.parents.append(parent)
        return number, new

    def trace(self, number: int) -> tuple[str, ...]:
        """The steps to a state."""
        labels = []
        while number > 0:
            labels.append(self.labels[number])
            number = self.parents[number]
        return tuple(reversed(labels))

    def stuck(self) -> int | None:
        """The first state that was reached from which no way leads to a goal; None if there is none."""
        before: list[list[int]] = [[] for _ in self.labels]
        for source, target in zip(self.sources, self.targets, strict=True):
            before[target].append(source)
        reached = bytearray(len(self.labels))
        waiting = list(self.goals)
        while waiting:
            number = waiting.pop()
            if not reached[number]:
                reached[number] = 1
                waiting += before[number]
        found = reached.find(0)
        return None if found < 0 else found


def check(
    first: Any,
    steps: Callable[[Any], Iterable[Step]],
    goal: Callable[[Any], bool],
    key: Callable[[Any], Hashable],
    limit: int = 2_000_000,
) -> Checked:
    """Explore all that can be reached, until an invariant is broken; then look for states that are stuck."""
    search, depth = Search(), 0
    search.number(key(first), 0, "")
    level = [(0, first)]
    while level and len(search.labels) < limit:
        following = []
        for number, state in level:
            if goal(state):
                search.goals.append(number)
            for step in steps(state):
                search.transitions += 1
                if step.broken is not None:
                    trace = (*search.trace(number), step.label)
                    return Checked(len(search.labels), search.transitions, depth + 1, False, step.broken, trace)
                reached, new = search.number(key(step.after), number, step.label)
                if new:
                    following.append((reached, step.after))
                if not step.fault:
                    search.sources.append(number)
                    search.targets.append(reached)
        level = following
        depth += bool(level)
    found = (len(search.labels), search.transitions, depth, not level)
    stuck = search.stuck() if not level else None
    if stuck is None:
        return Checked(*found)
    return Checked(*found, "I1: from here, not every job can come to its end any more", search.trace(stuck))
