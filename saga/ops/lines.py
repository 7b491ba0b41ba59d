"""Lines of a story, and how they stand on a page of some width. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple


class Tone(StrEnum):
    TITLE = "title"
    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    STUCK = "stuck"
    QUIET = "quiet"


def tone_of(state: str) -> Tone:
    """How a state is shown: early, completed, running, compensating, compensated or parked."""
    return {"completed": Tone.GOOD, "parked": Tone.STUCK, "compensated": Tone.BAD, "compensating": Tone.BAD}.get(state, Tone.PLAIN)


class Line(NamedTuple):
    """One line of a story. `since`: relative to its start, and `at`: the time of day, on the lines that begin a decision."""

    tone: Tone
    text: str
    since: str = ""
    at: str = ""
    level: int = 0  # 0: over the full width; 1: a decision; 2: what came of it


NARROW = 64  # columns; below, the time of day is left out


def page(lines: Iterable[Line], width: int | None = None) -> Iterator[tuple[Tone, str, str]]:
    """Each line as (tone, margin, text), folded to `width` columns with the text kept in its column; None: never folded."""
    lines = list(lines)
    narrow = width is not None and width < NARROW
    first = max((len(line.since) for line in lines), default=0)
    margin = first + 2 if narrow else first + 16
    for line in lines:
        if line.level == 0:
            yield from ((line.tone, "", text) for text in _folded(line.text, width, ""))
            continue
        head = f"{line.since:>{first}}  " if narrow else f"{line.since:>{first}}  {line.at:<12}  "
        space, hang = ("  " if line.level == 2 else ""), ("  " if line.level == 2 else "")
        room = None if width is None else max(width - margin, 20)
        for number, text in enumerate(_folded(space + line.text, room, space + hang)):
            yield line.tone, head if number == 0 else " " * margin, text


def _folded(text: str, width: int | None, hang: str) -> list[str]:
    if width is None or len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=hang, drop_whitespace=True, break_on_hyphens=False) or [text]
