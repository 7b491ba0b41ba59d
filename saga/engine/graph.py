"""The shape of a saga: who comes before whom, what can be undone, what the structure is called, and whether it may be so at all.

S1: at most one pivot on each path, all that can be undone before it, all that cannot fail any more after it. Two steps are on paths that
exclude each other if their conditions say so: one runs `unless` the other, or a step that the other one needs, does. S5: the structure
has an outline (one line per step) and a hash of it, so that a change without a new version can be told, and shown as a difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Any

from saga.engine.kinds import Child, Mapped, Wait, Waiting
from saga.engine.nodes import AnyStep, Node, Unless
from saga.errors import DefinitionError


class Graph:
    """The steps of one saga and their links, computed once."""

    def __init__(self, steps: Iterable[AnyStep[Any]]) -> None:
        self.steps = {step.name: step for step in steps}
        self.before: dict[str, tuple[str, ...]] = {
            name: tuple(n.name for n in step.after if n.name in self.steps) for name, step in self.steps.items()
        }
        self.next: dict[str, tuple[str, ...]] = {
            name: tuple(other for other, links in self.before.items() if name in links) for name in self.steps
        }
        self._above = {name: frozenset(self._ancestors(name)) for name in self.steps}
        self.mapped = {name: step for name, step in self.steps.items() if isinstance(step, Mapped)}
        self.pivots = tuple(name for name, step in self.steps.items() if step.pivot)
        self.after_pivot = frozenset(name for name, above in self._above.items() if above.intersection(self.pivots))
        self.outline: dict[str, str] = {name: step.outline() for name, step in sorted(self.steps.items())}
        self.hash = hashlib.sha256(repr(sorted(self.outline.items())).encode()).hexdigest()[:16]

    def retriable(self, name: str) -> bool:
        """After the pivot, and needed: tried until it succeeds (S19). The remedy of a wait is not: there the event is what is needed."""
        step = self.steps[name]
        return name in self.after_pivot and not step.best_effort and not isinstance(step, Waiting)

    def exclude(self, one: str, other: str) -> bool:
        """Can these two never both run?"""
        return any((name, not ran) in self._needs(other) for name, ran in self._needs(one))

    def check(self, saga: str, where: str) -> None:
        """The rules that need the whole graph. Raises DefinitionError for the first that is broken."""
        if not self.steps:
            raise DefinitionError(f"{saga} has no step", where)
        for number, pivot in enumerate(self.pivots):
            for earlier in self.pivots[:number]:
                if not self.exclude(pivot, earlier):
                    what = f"{saga} has two pivots, {earlier} and {pivot}; at most one is possible on a path (see unless)"
                    raise DefinitionError(what, self.steps[pivot].where)
        for step in self.steps.values():
            self._check_condition(step)
            side = self._side(step)
            if side != "before":
                self._check_forward(step, side)
            else:
                self._check_compensatable(step)
            if step.unknown == "verify" and step.finder is None:
                raise DefinitionError(f'{step.name}: unknown="verify" needs @{step.name}.verify', step.where)
        for name in self.after_pivot:
            self._check_all_settled_before(self.steps[name])

    def _side(self, step: AnyStep[Any]) -> str:
        """Where a step stands: "pivot", "after" it, or "before" it (also where there is none). Raises DefinitionError for neither."""
        if step.pivot:
            return "pivot"
        name, sides = step.name, set()
        for pivot in self.pivots:
            if pivot in self._above[name]:
                sides.add("after")
            elif not self.exclude(name, pivot) and not step.best_effort:
                if name not in self._above[pivot]:
                    what = f"{name} is neither before nor after the pivot {pivot}; link it to one side, or say best_effort=True"
                    raise DefinitionError(what, step.where)
                sides.add("before")
        if len(sides) > 1:
            raise DefinitionError(f"{name} is after one pivot and before another: it cannot be both retried and undone", step.where)
        return sides.pop() if sides else "before"

    def _check_forward(self, step: AnyStep[Any], side: str) -> None:
        kind = "the pivot" if step.pivot else "after the pivot"
        if step.compensation_class is not None:
            raise DefinitionError(f"{step.name} is {kind}: it is never compensated, so it has no compensation", step.where)
        self._check_end(step, f"is {kind}")
        if step.best_effort and step.pivot:
            raise DefinitionError(
                f"{step.name} is the pivot: the saga stands or falls with it, so it is no best effort", step.where
            )
        if side == "after" and not step.best_effort and (step.finder is not None or step.unknown is not None):
            raise DefinitionError(f"{step.name} is {kind}: it is tried until it succeeds, so it is never unknown", step.where)
        if step.pivot and step.unknown == "compensate":
            raise DefinitionError(f"{step.name} is the pivot: if its outcome is unknown it is verified or parked", step.where)

    def _check_end(self, step: AnyStep[Any], why: str) -> None:
        """S4: where the deadline only alerts, each wait has an end of its own."""
        if isinstance(step, Wait) and step.within is None:
            raise DefinitionError(f"{step.name} {why}: it needs a within= (the deadline does not end it)", step.where)
        if step.timeout is None and not isinstance(step, Child):
            raise DefinitionError(f"{step.name} {why}: its command needs a time-out (the deadline does not end it)", step.where)

    def _check_all_settled_before(self, step: AnyStep[Any]) -> None:
        """What is after a pivot is never undone. So it must not begin, a pivot being skipped, while another step may still fail."""
        for name, other in self.steps.items():
            forward = name in self.after_pivot or other.best_effort or step.best_effort
            if not (forward or name in self._above[step.name] or self.exclude(name, step.name)):
                what = (
                    f"{step.name} is after a pivot and is never undone, but {name} may fail when it has begun; put it after {name}"
                )
                raise DefinitionError(what, step.where)

    def _check_compensatable(self, step: AnyStep[Any]) -> None:
        if step.best_effort and self.pivots and not any(step.name in self._above[pivot] for pivot in self.pivots):
            self._check_end(step, "is a best effort that may outlast the pivot")
        if isinstance(step, Child) and not step.undoable and step.compensation is not None:
            what = f"{step.name}: {step.child.name} has a pivot, so it cannot be undone after it completed; say compensation=None"
            raise DefinitionError(what, step.where)
        if not step.undoable and step.compensation is not None and not step.best_effort:
            what = (
                f"{step.name} has no compensation; write @{step.name}.compensate, or compensation=None if nothing is to be undone"
            )
            raise DefinitionError(what, step.where)
        if step.unknown == "compensate" and not step.undoable:
            raise DefinitionError(f'{step.name}: unknown="compensate" needs @{step.name}.compensate', step.where)

    def _check_condition(self, step: AnyStep[Any]) -> None:
        """What a condition speaks of must be decided when it is asked."""
        when = step.when
        other = when.node if isinstance(when, Unless) else when
        if not isinstance(other, Node):
            return
        if other not in self.steps.values():
            raise DefinitionError(f"{step.name}: when= speaks of {other.name}, which is no step of this saga", step.where)
        above = self._above[step.name]
        if other.name not in above and not above.issuperset(self.before[other.name]):
            what = f"whether {other.name} runs may not be known when its turn comes; put it after all that {other.name} is after"
            raise DefinitionError(f"{step.name}: {what}", step.where)

    @cache  # noqa: B019 - a graph lives as long as its saga, which is as long as the process
    def _needs(self, name: str) -> frozenset[tuple[str, bool]]:
        """What must be so for this step to run: (step, whether it ran)."""
        when = self.steps[name].when
        own = {(name, True)}
        if isinstance(when, Unless):
            return frozenset(own | {(when.node.name, False)})
        if isinstance(when, Node) and when.name in self.steps:
            return frozenset(own | self._needs(when.name))
        return frozenset(own)

    def _ancestors(self, name: str) -> set[str]:
        found: set[str] = set()
        front = [name]
        while front:
            for other in self.before[front.pop()]:
                if other not in found:
                    found.add(other)
                    front.append(other)
        return found


def difference(old: dict[str, str], new: dict[str, str]) -> str:
    """What changed between two outlines, a line a step."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            lines.append(f"  {name}: was [{old.get(name, 'not there')}], is [{new.get(name, 'not there')}]")
    return "\n".join(lines)
