"""The numbers of the analytics service: outcomes and revenue, by currency and by window of time.

Counting is not idempotent, so nothing is counted up. The table holds one row for each outcome, under the outcome's own id; an outcome
that is told again, or handled again after a crash, writes the row that is there already. Every number is a sum over rows. A row belongs
to the window in which its outcome was decided, which is the same however often it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from saga.errors import Corrupt
from services.checkout.outcomes import Outcome

TABLE = "outcomes"
CHANGELOG = f"analytics-{TABLE}-changelog"  # Faust's name for it: <app>-<table>-changelog
WINDOW = 60_000  # ms; what the table keeps of a time. Longer windows are sums of these
KEEP = 48 * 3600 * 1000  # ms; older rows leave the table


class Row(NamedTuple):
    """One outcome, as small as it can be: this is what is kept for each order."""

    completed: bool
    at: int  # ms
    currency: str
    minor: int

    @property
    def window(self) -> int:
        return self.at - self.at % WINDOW


def row_of(outcome: Outcome) -> Row:
    return Row(outcome.completed, outcome.at, outcome.data.total.currency, outcome.data.total.minor)


def encode_row(row: Row) -> bytes:
    return orjson.dumps(list(row))


def decode_row(raw: bytes) -> Row:
    """Raises Corrupt for anything that `encode_row` did not write."""
    try:
        completed, at, currency, minor = orjson.loads(raw)
        if not (isinstance(completed, bool) and isinstance(at, int) and isinstance(currency, str) and isinstance(minor, int)):
            raise ValueError("a field has another type")
    except (ValueError, TypeError) as error:
        raise Corrupt(f"{raw[:100]!r} is no row of the table {TABLE}: {error}") from None
    return Row(completed, at, currency, minor)


@dataclass
class Count:
    """What came to an end in some time. `revenue`: what completed orders cost, in minor units by currency."""

    completed: int = 0
    compensated: int = 0
    revenue: dict[str, int] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        if row.completed:
            self.completed += 1
            self.revenue[row.currency] = self.revenue.get(row.currency, 0) + row.minor
        else:
            self.compensated += 1

    def to_json(self) -> dict[str, Any]:
        return {"completed": self.completed, "compensated": self.compensated, "revenue": dict(sorted(self.revenue.items()))}


def count(rows: Iterable[Row]) -> Count:
    counted = Count()
    for row in rows:
        counted.add(row)
    return counted


def by_window(rows: Iterable[Row], length: int = WINDOW) -> Mapping[int, Count]:
    """The same by window of `length` ms (a multiple of WINDOW), by the time at which each begins, in order."""
    counted: dict[int, Count] = {}
    for row in rows:
        counted.setdefault(row.at - row.at % length, Count()).add(row)
    return dict(sorted(counted.items()))
