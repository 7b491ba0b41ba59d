"""How operators are told about times, texts and values: the same words in every tool. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from saga.errors import Misconfigured
from saga.raised import raised_at

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST_VALUE = 60  # characters of one value in a line; the whole of it is in -o json


def plain(text: str) -> str:
    """Text that cannot move the cursor, end the line or turn the reading direction: such characters are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def named(key: str) -> str:
    """A key as people read it: in quotation marks where spaces at its ends, or nothing but spaces, would not be seen."""
    return plain(key) if key and key == key.strip() else f'"{plain(key)}"'


def counted(count: int, one: str) -> str:
    """1 decision, 2 decisions."""
    return f"{count} {one}{'' if count == 1 else 's'}"


def duration(ms: int) -> str:
    """A length of time in at most two units: 40 ms, 4.2 s, 5 min 3 s, 2 h 14 min, 3 d 4 h."""
    ms = max(0, ms)
    if ms < 1000:
        return f"{ms} ms"
    if ms < 59_500:
        return f"{ms / 1000:.1f} s" if ms < 9950 else f"{ms / 1000:.0f} s"
    for name, unit, small_name, small in (
        ("d", 86_400_000, "h", 3_600_000),
        ("h", 3_600_000, "min", 60_000),
        ("min", 60_000, "s", 1000),
    ):
        if ms >= unit - small // 2:
            whole, rest = divmod((ms + small // 2) // small, unit // small)
            return f"{whole} {name} {rest} {small_name}" if rest else f"{whole} {name}"
    raise AssertionError(ms)


def coarse(ms: int) -> str:
    """The same in one unit, for columns: 4.2 s, 5 min, 2 h, 3 d."""
    for name, unit in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= unit:
            return f"{ms // unit} {name}"
    return duration(ms)


def ago(then: int, now: int) -> str:
    return "just now" if now - then < 1000 else f"{duration(now - then)} ago"


def clock(ms: int) -> str:
    """The time of day in UTC, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M:%S.") + f"{ms % 1000:03}"


def day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def moment(ms: int, now: int) -> str:
    """A point in time, with its day if that is not today's: 19:48:16 UTC."""
    text = f"{clock(ms)[:8]} UTC"
    return text if day(ms) == day(now) else f"{day(ms)} {text}"


def parse_duration(text: str) -> int:
    """90s, 10m, 2h, 1d or 500ms as milliseconds. Raises Misconfigured."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|m|min|h|d)", text.strip())
    if not found:
        raise Misconfigured(f"a duration is written 90s, 10m, 2h or 1d, not {text!r}")
    return round(float(found[1]) * _UNITS[found[2].replace("min", "m")])


def brief(value: Any, longest: int = LONGEST_VALUE) -> str:
    """A JSON value in one line, cut where it is long."""
    text = plain(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def last_line(detail: str) -> str:
    """Of a traceback, what was raised and where in whose code; of any other text, its last line that says something."""
    return plain(raised_at(detail))


def changes(before: Any, after: Any, path: str = "") -> list[str]:
    """What differs between two JSON values, a text a place: `payment_id "" → "p1"`."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[str] = []
        for name in [*before, *(name for name in after if name not in before)]:
            place = f"{path}.{plain(name)}" if path else plain(name)
            if name not in after:
                found.append(f"{place} is gone")
            elif name not in before:
                found.append(f"{place} {brief(after[name])}")
            else:
                found += changes(before[name], after[name], place)
        return found
    if isinstance(before, list) and isinstance(after, list) and before == after[: len(before)]:
        return [f"{path} + {brief(after[len(before) :][0] if len(after) == len(before) + 1 else after[len(before) :])}"]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [line for n, (old, new) in enumerate(zip(before, after, strict=True)) for line in changes(old, new, f"{path}[{n}]")]
    return [f"{path or 'data'} {brief(before)} → {brief(after)}"]
