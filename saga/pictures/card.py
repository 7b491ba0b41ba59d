"""One box of a drawing: how large it is, and what it looks like. Sizes in px; each box is drawn with its top left corner at 0, 0."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple
from xml.sax.saxutils import escape

from saga.pictures.flow import Box, Kind, Mark
from saga.pictures.layers import Size
from saga.pictures.measure import fitted, width_of
from saga.pictures.style import rect, tag, text

NARROWEST, WIDEST = 208, 300
TEXT_X, PADDING = 52, 14
OVER, NAME, LINE = 22, 40, 18  # the baselines of the first two texts, and the height of each line below them
FOOT = 28
CONDITION = 30  # a hexagon of 22 and the piece of line below it
STACK = 5  # by how much a mapped step's further cards stand out
LETTER = 0.6  # letter-spacing of the small capitals

_ICONS = {  # strokes within 16 × 16
    Kind.SAGA: "M4.5,2.5 L13,8 L4.5,13.5 z",
    Kind.COMMAND: "M2,8 H13 M9,4 L13,8 L9,12",
    Kind.EACH: "M2,4 H4 M7,4 H14 M2,8 H4 M7,8 H14 M2,12 H4 M7,12 H14",
    Kind.EVENT: "M2,4.5 H14 V12.5 H2 z M2,5 L8,9.5 L14,5",
    Kind.QUESTION: "M8,7.5 A2.7,2.7 0 1 0 8,2.1 A2.7,2.7 0 1 0 8,7.5 M2.5,14 C2.5,8.9 13.5,8.9 13.5,14",
    Kind.PAUSE: "M8,2 A6,6 0 1 0 8,14 A6,6 0 1 0 8,2 M8,4.8 V8 L10.4,9.6",
    Kind.CHILD: "M2,2 H14 V14 H2 z M5.5,5.5 H10.5 V10.5 H5.5 z",
    Kind.CHAIN: "M8,3 H3 V13 H13 V8 M10,2 H14 V6 M14,2 L8,8",
    Kind.END: "M2.5,8.5 L6.5,12.5 L13.5,4",
}


class State(NamedTuple):
    """How a state of a step is shown."""

    tone: str
    sign: str


# What the engine calls a step's state; "parked" is the step at which an instance waits for an operator.
STATES = {
    "executing": State("now", "▸"),
    "verifying": State("now", "?"),
    "waiting": State("now", "…"),
    "done": State("good", "✓"),
    "compensating": State("back", "↩"),
    "compensated": State("back", "↩"),
    "refused": State("bad", "✕"),
    "unknown": State("bad", "?"),
    "parked": State("bad", "!"),
    "skipped": State("soft", "–"),
}


def size_of(box: Box, width: int) -> Size:
    """Of the whole, with the condition above it."""
    if box.kind is Kind.END:
        wide = max(width_of(box.title, 13, bold=True) + 58, *(width_of(line, 12) + 32 for line in box.lines), 0)
        return Size(ceil(wide), 36 + LINE * len(box.lines) + (4 if box.lines else 0))
    stack = 2 * STACK if box.kind is Kind.EACH else 0
    return Size(width, _card_height(box) + stack + (CONDITION if box.condition else 0))


def width_for(box: Box) -> float:
    """What its texts would like to have."""
    if box.kind is Kind.END:
        return 0
    over = width_of(_over(box), 10, bold=True) + LETTER * len(_over(box)) + 84  # a state's chip is beside it
    name = width_of(box.title, 16, bold=True)
    return max(TEXT_X + PADDING + max([name, *(width_of(line, 12) for line in box.lines)]), over, 40 + width_of(box.undo, 12))


def draw(box: Box, size: Size, state: str = "") -> str:
    """The box, with its state if there is one. Hovering over it shows what it is called on the wire."""
    if box.kind is Kind.END:
        return _end(box, size)
    top = CONDITION if box.condition else 0
    height, parts = _card_height(box), [_condition(box, size.width)] if box.condition else []
    if box.kind is Kind.EACH:
        parts += [rect(n * STACK, top + n * STACK, size.width - 2 * n * STACK + n * STACK, height, "card") for n in (2, 1)]
    parts += [rect(0, top, size.width, height, "card"), *_double(box, top, size.width, height), *_words(box, top, size.width)]
    if box.undo:
        parts.append(_foot(box, top + height, size.width))
    shown = STATES.get(state)
    if shown:
        parts.append(_chip(shown, state, size.width, top))
    said = ". ".join(
        [f"{_over(box).lower()} {box.title}", box.condition, *box.lines, *([f"undone by {box.undo}"] if box.undo else [])]
    )
    classes = ["step", *(mark.replace(" ", "-") for mark in box.marks), *(["start"] if box.kind is Kind.SAGA else [])]
    classes += [f"is-{shown.tone}"] if shown else []
    label = said.replace(". .", ".") + (f". {state}" if state else "")
    hint = tag("title", escape("\n".join([f"{box.title} ({box.kind})", *box.lines, *box.wire])))
    return tag("g", [hint, *parts], class_=" ".join(classes), role="listitem", aria_label=label)


def _card_height(box: Box) -> int:
    return NAME + LINE * len(box.lines) + 13 + (FOOT if box.undo else 0)


def _over(box: Box) -> str:
    """The small capitals above the name."""
    return " · ".join([*(mark.upper() for mark in box.marks if mark is Mark.PIVOT), box.kind.upper(),
                       *(mark.upper() for mark in box.marks if mark is not Mark.PIVOT)])  # fmt: skip


def _words(box: Box, top: float, width: int) -> list[str]:
    room = width - TEXT_X - PADDING
    icon = tag("path", d=_ICONS[box.kind], class_="icon", transform=f"translate(18 {top + 22})")
    parts = [tag("circle", cx=26, cy=top + 30, r=15, class_="badge"), icon]
    parts.append(text(_over(box), TEXT_X, top + OVER, "over"))
    parts.append(text(fitted(box.title, room, 16, bold=True), TEXT_X, top + NAME, "name"))
    for number, line in enumerate(box.lines):
        words = fitted(line, room, 12)
        parts.append(text(words, TEXT_X, top + NAME + LINE * (number + 1) + 1, "" if number == 0 else "soft"))
    return parts


def _double(box: Box, top: float, width: int, height: int) -> list[str]:
    """A child is a whole saga: its border is doubled."""
    return [rect(3.5, top + 3.5, width - 7, height - 7, "card", 7)] if box.kind is Kind.CHILD else []


def _foot(box: Box, bottom: float, width: int) -> str:
    inset = 5 if box.kind is Kind.CHILD else 1
    x, y, right, low, r = inset, bottom - FOOT, width - inset, bottom - inset, 9 if inset == 1 else 6
    shape = f"M{x},{y} H{right} V{low - r} Q{right},{low} {right - r},{low} H{x + r} Q{x},{low} {x},{low - r} z"
    words = fitted(box.undo, width - 40 - PADDING, 12)
    return tag("path", d=shape, class_="undo") + text("↩", 19, bottom - 9, "undo-text") + text(words, 38, bottom - 9, "undo-text")


def _condition(box: Box, width: int) -> str:
    words = fitted(box.condition, width - 36, 12)
    half = width_of(words, 12) / 2 + 8
    left, right = round(width / 2 - half), round(width / 2 + half)
    shape = f"M{left},0.5 H{right} L{right + 9},11 L{right},21.5 H{left} L{left - 9},11 z"
    stem = tag("path", d=f"M{width // 2},22 V{CONDITION}", class_="flow")
    return stem + tag("path", d=shape, class_="if") + text(words, width / 2, 15, text_anchor="middle")


def _chip(shown: State, state: str, width: int, top: float) -> str:
    words = f"{shown.sign} {state}"
    wide = width_of(words, 11, bold=True) + 16
    back = rect(width - wide - 8, top - 10, wide, 20, f"{shown.tone}-chip card", 10)
    return back + text(words, width - 8 - wide / 2, top + 4, f"chip {shown.tone}-word", text_anchor="middle")


def _end(box: Box, size: Size) -> str:
    left = (size.width - width_of(box.title, 13, bold=True) - 22) / 2
    parts = [rect(0, 0, size.width, size.height, "card", 18)]
    parts.append(tag("path", d=_ICONS[Kind.END], class_="icon", transform=f"translate({round(left)} 10)"))
    parts.append(text(box.title, left + 24, 23, "name"))
    for number, line in enumerate(box.lines):
        parts.append(text(line, size.width / 2, 41 + LINE * number, "soft", text_anchor="middle"))
    return tag("g", parts, class_="end", role="listitem", aria_label=". ".join([box.title, *box.lines]))
