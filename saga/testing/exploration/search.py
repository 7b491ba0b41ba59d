"""All runs: without a fault, then with each one, then with each one after each one.

The naive way plays every pair of faults from the start to the end. Most of these runs are the same: two faults that leave everything as
it would have been, or come to the same place another way. So worlds are compared by what their future depends on, and none is played
twice. What has more faults left to come goes first, level by level: whatever is then found to be known was played with at least as many
faults. It follows too that a problem is first met with the fewest faults that show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from saga.ops.look import Moment
from saga.testing.exploration.judge import Broken, Problem
from saga.testing.exploration.moves import faults, go_on, late_arrivals, strike
from saga.testing.exploration.world import World


@dataclass
class Finding:
    """One problem, the simplest run that shows it, and how many others do, by number of faults."""

    problem: Problem
    world: World
    runs: Counter[int] = field(default_factory=Counter)


@dataclass
class Search:
    """What was looked at, and what was found."""

    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    runs: Counter[int] = field(default_factory=Counter)  # to the end or to a problem, by number of faults
    faults: Counter[int] = field(default_factory=Counter)  # that struck, by which one of the run it was
    merged: int = 0  # runs that came to where another one had been
    outcomes: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    _known: set[int] = field(default_factory=set)
    _coarse: set[int] = field(default_factory=set)

    @property
    def states(self) -> int:
        """How many different worlds were met."""
        return len(self._known)

    def explore(self, begin: World, depth: int) -> None:
        """All runs with up to `depth` faults."""
        level: list[World] = []
        self._play(begin.copy, 0, level.append)
        for number in range(1, depth + 1):
            last, level = level, []
            keep = level.append if number < depth else _nothing  # of the last ones nobody asks what could befall them
            for world in last:
                for fault in faults(world):
                    self.faults[number] += 1
                    self._play(partial(strike, world, fault), number, keep, coarse=fault.beside)

    def _play(self, first: Callable[[], World], number: int, keep: Callable[[World], None], *, coarse: bool = False) -> None:
        """Every run that begins so, each to its end; the worlds that were new go to `keep`."""
        waiting = [first]
        while waiting:
            try:
                here = waiting.pop()()
                if coarse and not _add(self._coarse, here.key(coarse=True)):
                    self.merged += 1
                    return
                coarse = False
                while _add(self._known, here.key()):
                    keep(here)
                    waiting += late_arrivals(here)
                    after = go_on(here)
                    if after is None:
                        self._end(here, number)
                        break
                    here = after
                else:
                    self.merged += 1
            except Broken as broken:
                self._found(broken, number)

    def _end(self, world: World, number: int) -> None:
        self.runs[number] += 1
        self.outcomes[world.outcome] += 1
        self.parked.update(moment.after.parked.reason for moment in world.moments() if _parks(moment))  # type: ignore[union-attr]

    def _found(self, broken: Broken, number: int) -> None:
        problem, world = broken.problem, broken.world
        assert world is not None, f"a problem without a world: {problem}"
        self.runs[number] += 1
        finding = self.findings.setdefault((problem.kind, problem.step), Finding(problem, world))
        finding.runs[number] += 1
        if _simplicity(world) < _simplicity(finding.world):
            finding.problem, finding.world = problem, world


def _nothing(_: World) -> None:
    pass


def _add(known: set[int], key: int) -> bool:
    before = len(known)
    known.add(key)
    return len(known) > before


def _parks(moment: Moment) -> bool:
    return bool(moment.decision.patch.get("parked"))


def _simplicity(world: World) -> tuple[int, int, int]:
    """Few faults before many, a service's before the orchestrator's (its reader has met them), a short story before a long one."""
    return len(world.faults), world.rare, len(world.moments())
