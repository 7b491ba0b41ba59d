"""A text that fits a regular expression, for sample payloads: the shortest and first one that it allows.

Only what patterns of message fields are made of is understood: literals, classes, groups, alternatives, counts. Anything else (a look
ahead, a back reference) raises ValueError, and the user is asked for a sample.
"""

from __future__ import annotations

import re

_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_SPECIAL = {"n": "\n", "t": "\t", "r": "\r"}
_PREFERRED = "a1A0- "  # of a class that allows it, the most readable


def fitting(pattern: str) -> str:
    """Raises ValueError if the pattern is not understood."""
    reader = _Reader(pattern)
    text = reader.alternatives()
    if reader.at < len(pattern) or not re.search(pattern, text):
        raise ValueError(f"no text is known for the pattern {pattern!r}")
    return text


class _Reader:
    """Reads a pattern from left to right and writes the text on the way."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def alternatives(self) -> str:
        """The first of the alternatives; the others are read over."""
        first = self._sequence()
        while self._next("|"):
            self._sequence()
        return first

    def _sequence(self) -> str:
        text = ""
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            one = self._one()
            text += one * self._count()
        return text

    def _one(self) -> str:
        sign = self._take()
        if sign in "^$":
            return ""
        if sign == "(":
            if self._next("?"):
                self._group_name()
            text = self.alternatives()
            self._must(")")
            return text
        if sign == "[":
            return self._class()
        if sign == "\\":
            return self._escape()
        return "a" if sign == "." else sign

    def _group_name(self) -> None:
        if self._next(":"):
            return
        if not self._next("P<"):
            raise ValueError(f"{self.pattern!r} has a group that is not understood")
        self.at = self.pattern.index(">", self.at) + 1

    def _escape(self) -> str:
        sign = self._take()
        if sign in "AbBzZ":
            return ""
        if sign.isdigit():
            raise ValueError(f"{self.pattern!r} refers back")
        return {**_CLASSES, **_SPECIAL}.get(sign, sign)

    def _class(self) -> str:
        start = self.at - 1
        self._next("^")
        self._next("]")
        while (sign := self._take()) != "]":
            if sign == "\\":
                self._take()
        allowed = re.compile(self.pattern[start : self.at])
        printable = [*_PREFERRED, *map(chr, range(33, 127))]
        found: str | None = next((sign for sign in printable if allowed.fullmatch(sign)), None)
        if found is None:
            raise ValueError(f"{self.pattern!r} has a class that is not understood")
        return found

    def _count(self) -> int:
        least = 1
        if self._next("?") or self._next("*"):
            least = 0
        elif self._next("+"):
            least = 1
        elif counted := re.compile(r"\{(\d*)(,\d*)?\}").match(self.pattern, self.at):
            self.at = counted.end()
            least = int(counted[1] or 0)
        _ = self._next("?") or self._next("+")
        return least

    def _take(self) -> str:
        if self.at >= len(self.pattern):
            raise ValueError(f"the pattern {self.pattern!r} ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def _next(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def _must(self, text: str) -> None:
        if not self._next(text):
            raise ValueError(f"{self.pattern!r} has no {text!r} where one is needed")
