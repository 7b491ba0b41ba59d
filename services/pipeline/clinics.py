"""What the clinics deliver: the diabetes measurements that ship with scikit-learn, in batches, with damage of which we keep a list.

442 patients: age, sex, body mass index, blood pressure, six values of blood serum, and how far the disease had progressed a year later
(Efron, Hastie, Johnstone, Tibshirani: Least Angle Regression, 2004). The damage is drawn from a seed. What was damaged, and how, is said
with each delivery, so that an audit can hold what was set aside against it.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Literal, NamedTuple

COLUMNS = ("patient", "age", "sex", "bmi", "pressure", "tc", "ldl", "hdl", "tch", "ltg", "glucose", "progression")
HEADING = ",".join(COLUMNS)
PARTS, ROWS = 4, 11  # of a batch, of a part: ten batches take 440 of the 442 patients
MOST_BATCHES = 442 // (PARTS * ROWS)
FLAKY_TIMES = 5  # requests that a source which is down answers with 503

Fate = Literal["loaded", "unreadable", "unusable"]


class Damage(NamedTuple):
    """A row that was damaged on purpose. `line` is its place in the part; `patient` whose row it is."""

    part: int
    line: int
    patient: int
    kind: str


@dataclass
class Delivery:
    """A batch as the clinics deliver it: the lines of its parts, and what is wrong with them."""

    batch_id: str
    fate: Fate = "loaded"  # what must come of it
    parts: list[list[str]] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    flaky: int = -1  # the part whose source is down for a while; -1: none

    def text(self, part: int) -> str:
        return "\n".join([HEADING, *self.parts[part]]) + "\n"

    def by_file(self, part: int) -> bool:
        """Every second part comes as a file, the others are fetched."""
        return part % 2 == 1

    def zipped(self, part: int) -> bytes:
        """The part as a file; of an unreadable batch it is cut short, as an upload that broke off."""
        raw = gzip.compress(self.text(part).encode(), mtime=0)
        return raw[: len(raw) // 2] if self.fate == "unreadable" else raw


@cache
def patients() -> tuple[tuple[str, ...], ...]:
    """The rows of scikit-learn's data set, as text; a patient's number is its place."""
    from sklearn.datasets import load_diabetes  # here: it takes seconds, and only who needs the rows should wait for it

    given = load_diabetes(scaled=False)
    return tuple(
        (str(number), *(format(value, "g") for value in row), format(target, "g"))
        for number, (row, target) in enumerate(zip(given.data, given.target, strict=True))
    )


def deliveries(count: int, seed: int) -> list[Delivery]:
    """So many batches; the same for the same seed. The last is unreadable, the one before it mostly damage, the first part is flaky."""
    assert 3 <= count <= MOST_BATCHES, f"3 to {MOST_BATCHES} batches can be made, not {count}"
    random, rows = Random(seed), iter(patients())
    made = []
    for number in range(count):
        delivery = Delivery(f"clinic-{number}")
        delivery.parts = [[",".join(next(rows)) for _ in range(ROWS)] for _ in range(PARTS)]
        made.append(delivery)
    made[0].flaky = 0
    for delivery in made[:-2]:
        _damage(delivery, random, random.randint(1, 3))
        _damage(delivery, random, 2, "comma")
    _damage(made[-2], random, PARTS * ROWS // 2)
    made[-2].fate, made[-1].fate = "unusable", "unreadable"
    return made


def _damage(delivery: Delivery, random: Random, count: int, kind: str = "") -> None:
    """Damage so many rows that are still whole; of a kind that is drawn, unless it is said. The first of a part stays whole."""
    hit = {(d.part, d.line) for d in delivery.damage}
    whole = [(part, line) for part in range(PARTS) for line in range(2, ROWS + 1) if (part, line) not in hit]
    for part, line in sorted(random.sample(whole, count)):
        values = delivery.parts[part][line - 1].split(",")
        drawn = kind or random.choice(("missing", "text", "range", "short", "twice"))
        patient = int(values[0])
        delivery.parts[part][line - 1] = _DAMAGE[drawn](values, delivery.parts[part])
        delivery.damage.append(Damage(part, line, patient, drawn))


def _replaced(values: list[str], column: str, by: str) -> str:
    return ",".join(by if name == column else value for name, value in zip(COLUMNS, values, strict=True))


_DAMAGE: dict[str, Callable[[list[str], list[str]], str]] = {
    "missing": lambda values, _: _replaced(values, "pressure", ""),
    "text": lambda values, _: _replaced(values, "bmi", "n/a"),
    "range": lambda values, _: _replaced(values, "age", str(int(values[1]) + 200)),
    "short": lambda values, _: ",".join(values[:-3]),
    "comma": lambda values, _: _replaced(values, "bmi", f'"{float(values[3]):.1f}"'.replace(".", ",")),
    # the part's first patient comes again, and this one's measurements are lost
    "twice": lambda _, lines: lines[0],
}
