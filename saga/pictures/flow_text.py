"""A saga as text, for a terminal: what is done in which order, with the numbers; what ends the way back; and in which order it is undone.

At three in the morning a drawing with lines of characters is a puzzle. A list is not: the steps in the order of the definition, numbered,
each saying after which it comes unless that is simply the one above.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from saga.engine.nodes import START
from saga.pictures.card import STATES
from saga.pictures.flow import Box, Flow, Kind, Mark

INDENT = "    "


class Said(NamedTuple):
    """A line and how it is to stand out: "title", "accent", "soft", "now", "good", "back", "bad", or "" for not at all."""

    style: str
    text: str


def flow_text(flow: Flow, states: Mapping[str, str] | None = None) -> list[Said]:
    """`states`: of an instance's steps by name, as `card.STATES` knows them."""
    begin, *steps, end = flow.boxes
    lines = [Said("title", begin.title), *(Said("soft", INDENT + line) for line in begin.lines)]
    for number, box in enumerate(steps, 1):
        lines += [Said("", ""), *_step(flow, number, box, (states or {}).get(box.name, ""))]
    lines += [Said("", ""), Said("title", "completed"), *(Said("soft", INDENT + line) for line in end.lines)]
    undone = [box for box in reversed(steps) if box.undo]
    if begin.undo:
        order = ", ".join(box.name for box in undone) or "nothing is to be undone"
        lines += [Said("", ""), Said("back", f"compensated, by the way back: {order}")]
    return lines


def _step(flow: Flow, number: int, box: Box, state: str) -> Iterable[Said]:
    above = flow.boxes[number - 1]
    words = [*([box.kind] if box.kind is not Kind.COMMAND else []), *box.marks]
    name = f"{number:>2}  {box.title}" + (f"  ({', '.join(words)})" if words else "")
    yield Said("accent" if Mark.PIVOT in box.marks else "title", name)
    if stands := STATES.get(state):
        yield Said(stands.tone, f"{INDENT}{stands.sign} {state}")
    before = [link.source for link in flow.links if link.target == box.name]
    if before != [above.name]:
        yield Said("soft", INDENT + "after " + _and(["the start" if name == START.name else name for name in before]))
    if box.condition:
        yield Said("", INDENT + box.condition)
    for place, line in enumerate(box.lines):
        yield Said("soft" if place else "", INDENT + line)
    if box.undo:
        yield Said("back", f"{INDENT}↩ {box.undo}")
    if Mark.PIVOT in box.marks:
        yield Said("accent", INDENT + "no way back from here")


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
