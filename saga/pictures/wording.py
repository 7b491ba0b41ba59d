"""What the models say of lengths of time and of functions. Pure but for one thing: the source of a lambda is read, if it is there."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from datetime import timedelta
from typing import Any

LONGEST_CODE = 28  # characters of an expression in a box; longer ones are cut

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))


def span(time: timedelta) -> str:
    """A length of time in its largest units, exactly: 90 s is "1 min 30 s"."""
    left, parts = time // timedelta(milliseconds=1), []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"


def code_of(function: Callable[..., Any], otherwise: str) -> str:
    """A function by its name; a lambda by its expression, where its source can be read. `otherwise`, if not."""
    code = getattr(function, "__code__", None)
    if code is None or function.__name__ != "<lambda>":
        return getattr(function, "__name__", otherwise)
    places = [place for place in code.co_positions() if None not in place and place[3]]
    if len({line for place in places for line in place[:2]}) != 1:
        return otherwise  # not known, or over several lines
    line = linecache.getline(code.co_filename, places[0][0]).encode()  # columns are counted in bytes
    text = line[min(place[2] for place in places) : max(place[3] for place in places)].decode(errors="replace").strip()
    if not text:
        return otherwise
    return text if len(text) <= LONGEST_CODE else text[: LONGEST_CODE - 1] + "…"
