"""The shape of a saga: who comes before whom, what can be undone, what the structure is called, and whether it may be so at all.

S1: at most one pivot, all that can be undone before it, all that cannot fail any more after it. S5: the structure has an outline (one
line per step) and a hash of it, so that a change without a new version can be told, and shown as a difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from saga.errors import DefinitionError

if TYPE_CHECKING:
    from saga.engine.definition import Step


class Graph:
    """The steps of one saga and their links, computed once."""

    def __init__(self, steps: Iterable[Step[Any, Any]]) -> None:
        self.steps = {step.name: step for step in steps}
        self.before: dict[str, tuple[str, ...]] = {
            name: tuple(n.name for n in step.after if n.name in self.steps) for name, step in self.steps.items()
        }
        self.next: dict[str, tuple[str, ...]] = {
            name: tuple(other for other, links in self.before.items() if name in links) for name in self.steps
        }
        self.pivot: str | None = next((name for name, step in self.steps.items() if step.pivot), None)
        self.after_pivot: frozenset[str] = frozenset(self._descendants(self.pivot)) if self.pivot else frozenset()
        self.outline: dict[str, str] = {name: _outline(step) for name, step in sorted(self.steps.items())}
        self.hash = hashlib.sha256(repr(sorted(self.outline.items())).encode()).hexdigest()[:16]

    def retriable(self, name: str) -> bool:
        """After the pivot: tried until it succeeds (S19)."""
        return name in self.after_pivot

    def check(self, saga: str, where: str) -> None:
        """The rules that need the whole graph. Raises DefinitionError for the first that is broken."""
        if not self.steps:
            raise DefinitionError(f"{saga} has no step", where)
        pivots = [step for step in self.steps.values() if step.pivot]
        if len(pivots) > 1:
            raise DefinitionError(
                f"{saga} has two pivots, {pivots[0].name} and {pivots[1].name}; at most one is possible", pivots[1].where
            )
        ancestors = self._ancestors(self.pivot) if self.pivot else set(self.steps)
        for name, step in self.steps.items():
            if step.pivot or self.retriable(name):
                self._check_forward(step)
            elif name not in ancestors:
                raise DefinitionError(f"{name} is neither before nor after the pivot {self.pivot}; link it to one side", step.where)
            else:
                self._check_compensatable(step)

    def _check_forward(self, step: Step[Any, Any]) -> None:
        kind = "the pivot" if step.pivot else "after the pivot"
        if step.compensation_class is not None:
            raise DefinitionError(f"{step.name} is {kind}: it is never compensated, so it has no compensation", step.where)
        if step.timeout is None:
            raise DefinitionError(f"{step.name} is {kind}: its command needs a time-out (the deadline does not end it)", step.where)
        if not step.pivot and (step.finder is not None or step.unknown is not None):
            raise DefinitionError(f"{step.name} is {kind}: it is tried until it succeeds, so it is never unknown", step.where)
        if step.pivot and step.unknown == "compensate":
            raise DefinitionError(f"{step.name} is the pivot: if its outcome is unknown it is verified or parked", step.where)
        if step.unknown == "verify" and step.finder is None:
            raise DefinitionError(f'{step.name}: unknown="verify" needs @{step.name}.verify', step.where)

    def _check_compensatable(self, step: Step[Any, Any]) -> None:
        undoable = step.compensation_class is not None
        if not undoable and step.compensation is not None:
            what = (
                f"{step.name} has no compensation; write @{step.name}.compensate, or compensation=None if nothing is to be undone"
            )
            raise DefinitionError(what, step.where)
        if step.unknown == "compensate" and not undoable:
            raise DefinitionError(f'{step.name}: unknown="compensate" needs @{step.name}.compensate', step.where)
        if step.unknown == "verify" and step.finder is None:
            raise DefinitionError(f'{step.name}: unknown="verify" needs @{step.name}.verify', step.where)

    def _ancestors(self, name: str) -> set[str]:
        found: set[str] = set()
        front = [name]
        while front:
            for other in self.before[front.pop()]:
                if other not in found:
                    found.add(other)
                    front.append(other)
        return found

    def _descendants(self, name: str) -> set[str]:
        return {other for other in self.steps if name in self._ancestors(other)}


def _outline(step: Step[Any, Any]) -> str:
    """A step's structure in one line: links, kind and message types; no time-outs, retries or function bodies (S5)."""
    parts = ["after " + ", ".join(sorted(node.name for node in step.after)), _types(step.command_class)]
    if step.pivot:
        parts.append("pivot")
    if step.compensation_class is not None:
        parts.append("compensated by " + _types(step.compensation_class))
    if step.finder_class is not None:
        parts.append("verified by " + _types(step.finder_class))
    return "; ".join(parts)


def _types(command: Any) -> str:
    refusals = "".join(f" | {r.__type__}" for r in command.__refusals__)
    return f"{command.__type__} → {command.__reply__.__type__}{refusals}"


def difference(old: dict[str, str], new: dict[str, str]) -> str:
    """What changed between two outlines, a line a step."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            lines.append(f"  {name}: was [{old.get(name, 'not there')}], is [{new.get(name, 'not there')}]")
    return "\n".join(lines)
