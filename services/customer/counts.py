"""The numbers of insights: how many changes to which plan stand, by window of time.

Counting is not idempotent, so nothing is counted up. The table holds one row for each change, under the change's own id: heard again, it
is the row that is there already; withdrawn, it no longer stands. Every number is a sum over rows, and a row belongs to the window in
which its change was recorded, whenever that is heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

REACTOR, TABLE = "insights", "changes"
CHANGELOG = f"{REACTOR}-{TABLE}-changelog"  # Faust's name for it: <app>-<table>-changelog
WINDOW = 5  # seconds


class Row(NamedTuple):
    at: int  # seconds since 1970
    plan: str
    stands: bool

    @property
    def window(self) -> int:
        return self.at - self.at % WINDOW

    def encode(self) -> bytes:
        return orjson.dumps(list(self))

    @staticmethod
    def decode(raw: bytes) -> Row:
        return Row(*orjson.loads(raw))


def by_plan(rows: Iterable[Row]) -> dict[str, int]:
    return dict(sorted(Counter(row.plan for row in rows if row.stands).items()))


def by_window(rows: Iterable[Row]) -> Mapping[int, dict[str, int]]:
    """The same by window, by the second at which each begins, in order."""
    windows: dict[int, list[Row]] = {}
    for row in rows:
        windows.setdefault(row.window, []).append(row)
    return {begin: by_plan(windows[begin]) for begin in sorted(windows)}
