"""A saga as a drawing shows it: boxes with few words, links, and which of them are also a way back.

Each format (SVG, Mermaid, DOT, text) could walk the definition by itself, and each would tell another story of it. So it is walked once,
here; a renderer only says how this looks. The words are those of the definition: classes and functions, as the user named them. What
stands on the wire is in `wire`, for whoever needs to grep it.

The way back: a step before the pivot that fails, or is undone, gives the turn to the compensations of those before it. So a link is also
a way back if its second step can make the saga turn back, or is itself undone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from saga.engine.definition import Saga
from saga.engine.kinds import Chain, Child, Mapped, Pause, Wait
from saga.engine.nodes import START, AnyStep, Node, Unless
from saga.engine.state import Action
from saga.pictures.wording import code_of, span

END = "END"


class Kind(StrEnum):
    SAGA = "saga"  # the box that everything begins with
    COMMAND = "command"
    EACH = "for each"
    EVENT = "event"
    QUESTION = "question"
    PAUSE = "pause"
    CHILD = "child saga"
    CHAIN = "starts a saga"
    END = "end"


class Mark(StrEnum):
    PIVOT = "pivot"
    FORWARD = "only forward"  # after the pivot, and needed: tried until it succeeds
    BEST_EFFORT = "best effort"


@dataclass(frozen=True, slots=True)
class Box:
    """A step. `undo`: what undoes it; "" if nothing does. `condition`: what has to hold for it to run."""

    name: str
    title: str
    kind: Kind
    lines: tuple[str, ...] = ()
    condition: str = ""
    undo: str = ""
    marks: tuple[Mark, ...] = ()
    wire: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    source: str
    target: str
    back: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """The whole: the first box is the saga itself, named START, the last one its end. Steps stand in the order of the definition.

    `forward`: the steps after a pivot.
    """

    name: str
    version: int
    boxes: tuple[Box, ...]
    links: tuple[Link, ...]
    forward: frozenset[str]

    @property
    def pivots(self) -> tuple[str, ...]:
        return tuple(box.name for box in self.boxes if Mark.PIVOT in box.marks)

    def box(self, name: str) -> Box:
        return next(box for box in self.boxes if box.name == name)

    def undone_before(self, name: str) -> list[str]:
        """Whose compensations have their turn once this step's is done: the nearest that have one; START if there is none any more."""
        before: dict[str, list[str]] = {}
        for link in self.links:
            if link.back:
                before.setdefault(link.target, []).append(link.source)
        undoable = {box.name for box in self.boxes if box.undo}
        found, seen, front = dict[str, None](), {name}, [name]
        while front:
            for one in before.get(front.pop(0), ()):
                if one in undoable:
                    found[one] = None
                elif one not in seen:
                    seen.add(one)
                    front.append(one)
        return [one for one in found if one != START.name] or list(found)


def flow_of(saga: Saga[Any, Any]) -> Flow:
    """The drawing's model of a saga. Raises DefinitionError if the saga is not whole."""
    saga.check()
    graph = saga.graph
    turning = _turning_back(saga)
    boxes, links = [_start(saga, turning)], []
    for name, step in saga.steps.items():
        boxes.append(_box(step))
        links += [Link(before, name, name in turning) for before in graph.before[name] or (START.name,)]
    last = "begins anew, while there is more to do" if saga.again else ""
    boxes.append(Box(END, "completed", Kind.END, (last,) if last else ()))
    links += [Link(name, END) for name in saga.steps if not graph.next[name]]
    return Flow(saga.name, saga.version, tuple(boxes), tuple(links), graph.after_pivot)


def _start(saga: Saga[Any, Any], turning: set[str]) -> Box:
    event = saga.starts_on
    lines = [f"on {event.__name__} from {event.__service__}", f"deadline {span(saga.deadline)}"]
    for schedule in [one for one, _ in saga.timetable.values()] + ([saga.schedule] if saga.schedule else []):
        lines.append(f"by the clock: {schedule.cron} {schedule.tz}")
    undo = "compensated" if turning else ""
    title = f"{saga.name} v{saga.version}"
    return Box(START.name, title, Kind.SAGA, tuple(lines), undo=undo, wire=(f"starts on {event.__type__}",))


def _turning_back(saga: Saga[Any, Any]) -> set[str]:
    """The steps at which the way back can begin, or through which it can come."""
    found: set[str] = set()
    for name, step in reversed(saga.steps.items()):  # each stands after those that it comes after
        matters = not step.best_effort or step.undoable or not found.isdisjoint(saga.graph.next[name])
        if matters and name not in saga.graph.after_pivot:
            found.add(name)
    return found


def _box(step: AnyStep[Any]) -> Box:
    kind, lines = _kind_and_lines(step)
    marks = []
    if step.pivot:
        marks.append(Mark.PIVOT)
    if step.best_effort:
        marks.append(Mark.BEST_EFFORT)
    if step.saga.graph.retriable(step.name):
        marks.append(Mark.FORWARD)
    return Box(step.name, step.name, kind, tuple(lines), _condition(step), _undo(step), tuple(marks), tuple(_wire(step)))


def _kind_and_lines(step: AnyStep[Any]) -> tuple[Kind, list[str]]:
    if isinstance(step, Wait):
        return (Kind.QUESTION if step.role else Kind.EVENT), _wait(step)
    if isinstance(step, Pause):
        until = step.until
        return Kind.PAUSE, [f"waits {span(until)}" if isinstance(until, timedelta) else f"waits until {code_of(until, 'a time')}"]
    if isinstance(step, Child):
        forward = ["again until it completes"] if step.saga.graph.retriable(step.name) else []
        return Kind.CHILD, [f"runs {step.child.name}, waits for it", *forward]
    if isinstance(step, Chain):
        return Kind.CHAIN, [f"starts {step.child.name}, goes on at once"]
    lines = [_sent(step.command_class), _attempts(step), *_unanswered(step)]
    if isinstance(step, Mapped):
        items = f"for each of {code_of(step.items, 'its items')}, {step.at_once} at once"
        return Kind.EACH, [lines[0], items, *lines[1:]]
    return Kind.COMMAND, lines


def _wait(step: Wait[Any, Any]) -> list[str]:
    event, within = step.event, step.within
    first = f"{step.role} answers: {event.__name__}" if step.role else f"{event.__name__} from {event.__service__}"
    if within is None:
        return [first, "until the deadline"]
    lines = [first, f"within {span(within)}"]
    if step.command_class is not None:
        lines.append(f"late: {_sent(step.command_class)}, {span(within)} more")
    elif step.escalate:
        lines.append(f"late: {step.escalate} may too, {span(within)} more")
    if not step.best_effort:
        lines.append("too late: parks" if step.pivot or step.name in step.saga.graph.after_pivot else "too late: turns back")
    return lines


def _sent(command: Any) -> str:
    return f"{command.__name__} → {command.__service__}"


def _attempts(step: AnyStep[Any]) -> str:
    answer = f"answer within {span(step.timeout)}" if step.timeout is not None else "no time-out"
    if step.saga.graph.retriable(step.name):
        return f"{answer}, until it succeeds"
    return f"{answer}, {step.retry.attempts} attempt{'s' if step.retry.attempts > 1 else ''}"


def _unanswered(step: AnyStep[Any]) -> list[str]:
    """What follows when the last attempt had no answer; nothing to say where there is no last one, or nobody minds."""
    unknown = step.when_unknown()
    if step.saga.graph.retriable(step.name) or (step.best_effort and unknown == "park" and step.unknown is None):
        return []
    if unknown == "verify":
        assert step.finder_class is not None
        return [f"no answer: verified by {step.finder_class.__name__}"]
    return ["no answer: parks" if unknown == "park" else "no answer: compensated"]


def _condition(step: AnyStep[Any]) -> str:
    when = step.when
    if when is None:
        return ""
    if isinstance(when, Unless):
        return f"unless {when.node.name}"
    return f"if {when.name} ran" if isinstance(when, Node) else f"if {code_of(when, 'its condition holds')}"


def _undo(step: AnyStep[Any]) -> str:
    if not step.undoable:
        return ""
    return f"undoes {step.child.name}" if isinstance(step, Child) else _sent(step.compensation_class)


def _wire(step: AnyStep[Any]) -> Iterable[str]:
    """The types on the wire, a line for each action."""
    if isinstance(step, Wait):
        yield f"waits for {step.event.__type__}"
    elif isinstance(step, Child | Chain):
        yield f"starts {step.child.name} with {step.child.starts_on.__type__}"
        return
    for action in Action:
        command: Any = step.command_for(action)
        if command is not None:
            refusals = "".join(f" or {refusal.__type__}" for refusal in command.__refusals__)
            yield f"{'late' if isinstance(step, Wait) else action}: {command.__type__} → {command.__reply__.__type__}{refusals}"
