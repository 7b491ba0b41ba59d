"""What an exploration found, to read: counts, and for each problem what is wrong, the faults that show it, and the story."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from saga.engine.state import step_and_action
from saga.testing.decisions import told
from saga.testing.exploration.search import Finding, Search
from saga.testing.exploration.world import World

_TIMES = {0: "without any fault", 1: "with one fault", 2: "with two faults", 3: "with three faults"}
_PARKED = {
    "compensation": "a compensation failed",
    "unverified": "nobody answered whether a step had happened",
    "unknown": "nobody knew whether a step had happened",
    "refused": "a step after the pivot was refused",
    "late": "what was awaited after the pivot did not come",
}


@dataclass(frozen=True)
class Failure:
    """One thing that is wrong, with the simplest run that shows it. `runs`: how many show it, by number of faults."""

    kind: str
    step: str
    what: str
    advice: str
    faults: tuple[str, ...]
    story: str
    left: tuple[str, ...]  # steps whose effect stands at their service at the end of the run
    runs: Mapping[int, int]

    def __str__(self) -> str:
        lines = [self.what]
        if self.advice:
            lines.append(self.advice)
        lines += [f"Fault: {fault}" for fault in self.faults] or ["No fault is needed for that."]
        counted = [f"{_number(count, 'run')} {_TIMES[number]}" for number, count in sorted(self.runs.items())]
        lines.append(f"Seen in {' and '.join(counted)}. The simplest:")
        story = textwrap.indent(self.story, "    ")
        left = f"What has taken effect and was not undone: {', '.join(self.left) or 'nothing'}."
        return "\n".join([*lines, "", story, "", left])


@dataclass(frozen=True)
class Report:
    """What `explore` did and found; `print` it, or `assert_ok()` in a test.

    `runs`: different ones, by number of faults. `faults`: how many could strike first, and how many after one, over all runs. `states`:
    different situations. `parked`: how often a run waited for an operator on its way, by reason; a `retry` led each on.
    """

    saga: str
    version: int
    failures: tuple[Failure, ...]
    runs: Mapping[int, int]
    faults: Mapping[int, int]
    states: int
    merged: int
    outcomes: Mapping[str, int]
    parked: Mapping[str, int]

    @property
    def ok(self) -> bool:
        return not self.failures

    def assert_ok(self) -> None:
        """Raises AssertionError, with the stories, if anything is wrong."""
        __tracebackhide__ = True
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        found = _number(len(self.failures), "problem") if self.failures else "nothing is wrong"
        lines = [f"{self.saga}, version {self.version}: {found}", *(f"  {line}" for line in self._counts())]
        for number, failure in enumerate(self.failures, 1):
            head, *rest = str(failure).split("\n")
            lines += ["", f"{number}. {head}", textwrap.indent("\n".join(rest), "   ")]
        return "\n".join(lines)

    def _counts(self) -> list[str]:
        runs = _number(sum(self.runs.values()), "different run")
        first, *later = (count for _, count in sorted(self.faults.items())) if self.faults else (0,)
        after = f", and {_number(sum(later), 'other')} after one of them" if later else ""
        counts = [f"{_number(first, 'fault')}{after}: {runs}, {_number(self.states, 'state')}"]
        ends = [f"{count:,} {outcome}" for outcome, count in sorted(self.outcomes.items(), reverse=True)]
        if ends:
            counts.append(" · ".join(ends))
        if self.parked:
            parked = ", ".join(f"{count:,} times because {_PARKED.get(why, why)}" for why, count in sorted(self.parked.items()))
            counts.append(f"parked on the way, and led on by a retry: {parked}")
        return counts


def report(saga: str, version: int, search: Search) -> Report:
    found = sorted(search.findings.values(), key=lambda finding: (len(finding.world.faults), finding.problem))
    failures = tuple(_failure(finding) for finding in found)
    return Report(
        saga,
        version,
        failures,
        dict(search.runs),
        dict(search.faults),
        search.states,
        search.merged,
        dict(search.outcomes),
        dict(search.parked),
    )


def _failure(finding: Finding) -> Failure:
    problem, world = finding.problem, finding.world
    return Failure(
        problem.kind,
        problem.step,
        problem.what,
        problem.advice,
        world.faults,
        told(world.setting.saga, world.setting.samples.key, world.moments(), world.now),
        _left(world),
        dict(finding.runs),
    )


def _left(world: World) -> tuple[str, ...]:
    return tuple(dict.fromkeys(step_and_action(command)[0] for command, net in world.effects.items() if net))


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
