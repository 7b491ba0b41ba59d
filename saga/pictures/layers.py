"""Where the boxes of a directed graph without cycles go: in rows, from top to bottom, and the lines between them.

The naive way puts each box below the ones before it and draws straight lines: lines run through boxes, and twelve parallel steps make a
picture nobody can read on a screen. This is the layered method of Sugiyama, in its simplest form, with two things of our own:

1. A box's row is the longest path to it. A row of more boxes than `columns` is split into several, as even as they can be.
2. A link over several rows gets a place in each of them (a pass), so that a line never meets a box. Links with the same source, or the
   same target, share their passes: one trunk, not a bundle.
3. Rows are ordered by the mean place of what they are linked to, down and up again; the order with the fewest crossings is kept.
4. In that order, boxes go as near as they can to the mean of the boxes they are linked to, passes to that of their neighbours: least
   squares with least distances, which is an isotonic regression, solved exactly by pooling (Pool Adjacent Violators). Then a trunk is
   made straight wherever there is one place for all of it.

Why no library: of those that lay out in layers, igraph and grandalf are under the GPL (grandalf rests since 2023), pyelk, a port of ELK,
is one release of one year under the EPL, graph-layout wants numpy, fast-sugiyama and graphlay are compiled, young, and do without 1 and
the shared trunks of 2; Graphviz is a program that is not on every machine. Deterministic: no hash order, no clock, whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, inf
from typing import NamedTuple

PASS_WIDTH = 24  # of a line's place in a row that it only passes
BETWEEN = 36  # between two boxes of a row
SWEEPS, SETTLING = 10, 60  # of the order, and then of places: enough for 200 boxes not to move by a pixel any more
TRUNK = " in row "  # in the name of a pass, after that of its trunk: no step's name has a space
STIFF = 100  # how much straighter a link is that is alone at both its ends: a chain reads as one
NUDGE = 5  # px out of line in a chain, which look like a mistake
YIELDING = 0.01  # how much a pass weighs against a box where both want the same place


class Size(NamedTuple):
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Place:
    """Of a box or a pass: the middle of its top edge, and its row."""

    x: int
    row: int
    width: int


class Segment(NamedTuple):
    """A line from a box or pass to one of the next row, and the links that run over it."""

    source: str
    target: str
    links: tuple[tuple[str, str], ...]


@dataclass
class Layout:
    """`places` of boxes by name and of passes by made-up names; `rows` from left to right. The leftmost edge is at x = 0."""

    rows: list[list[str]]
    places: dict[str, Place] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    width: int = 0


def lay_out(sizes: Mapping[str, Size], links: Sequence[tuple[str, str]], columns: int) -> Layout:
    """Boxes by name in an order in which each comes after those that it is linked from; `columns`: at most so many in a row."""
    rows = _rows(list(sizes), links, columns)
    row_of = {name: number for number, row in enumerate(rows) for name in row}
    segments = _passes(rows, row_of, links)
    widths = {name: sizes[name].width if name in sizes else PASS_WIDTH for row in rows for name in row}
    layout = Layout(_ordered(rows, segments), segments=segments)
    xs = _positions(layout.rows, [*segments, *(Segment(*link, ()) for link in links)], widths, sizes)
    _straighten(layout.rows, widths, xs)
    left = min(xs[name] - widths[name] / 2 for name in xs)
    layout.width = round(max(xs[name] + widths[name] / 2 for name in xs) - left)
    for number, row in enumerate(layout.rows):
        for name in row:
            layout.places[name] = Place(round(xs[name] - left), number, widths[name])
    return layout


def _rows(names: Sequence[str], links: Sequence[tuple[str, str]], columns: int) -> list[list[str]]:
    layer = dict.fromkeys(names, 0)
    for name in names:
        layer[name] = max((layer[source] + 1 for source, target in links if target == name), default=0)
    rows: list[list[str]] = []
    for number in range(max(layer.values()) + 1):
        row = [name for name in names if layer[name] == number]
        size = ceil(len(row) / ceil(len(row) / columns))
        rows += [row[start : start + size] for start in range(0, len(row), size)]
    return rows


def _passes(rows: list[list[str]], row_of: Mapping[str, int], links: Sequence[tuple[str, str]]) -> list[Segment]:
    """Put a pass into each row that a link crosses; say what is then linked from row to row."""
    long = [link for link in links if row_of[link[1]] - row_of[link[0]] > 1]
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for source, target in links:
        from_source = sum(link[0] == source for link in long)
        shared = f"from {source}" if from_source >= sum(link[1] == target for link in long) else f"to {target}"
        at = source
        for row in range(row_of[source] + 1, row_of[target]):
            name = f"{shared}{TRUNK}{row}"
            if name not in rows[row]:
                rows[row].append(name)
            found.setdefault((at, name), []).append((source, target))
            at = name
        found.setdefault((at, target), []).append((source, target))
    return [Segment(one, other, tuple(over)) for (one, other), over in found.items()]


def _ordered(rows: list[list[str]], segments: Iterable[Segment]) -> list[list[str]]:
    above, below = _neighbours(segments)
    best, fewest = rows, _crossings(rows, below)
    for sweep in range(SWEEPS):
        rows = [list(row) for row in rows]
        down = sweep % 2 == 0
        numbers = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for number in numbers:
            next_to = {name: place for place, name in enumerate(rows[number - 1 if down else number + 1])}
            links, row = (above if down else below), rows[number]
            middle = (len(next_to) - 1) / 2 - (len(row) - 1) / 2
            wish = {name: _mean([next_to[o] for o in links.get(name, ())], middle + place) for place, name in enumerate(row)}
            row.sort(key=lambda name: wish[name])
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _crossings(rows: Sequence[Sequence[str]], below: Mapping[str, Sequence[str]]) -> int:
    count = 0
    for row, following in pairwise(rows):
        place = {name: number for number, name in enumerate(following)}
        lines = [(number, place[other]) for number, name in enumerate(row) for other in below.get(name, ())]
        count += sum((a - c) * (b - d) < 0 for index, (a, b) in enumerate(lines) for c, d in lines[:index])
    return count


def _positions(
    rows: Sequence[Sequence[str]], segments: Iterable[Segment], widths: Mapping[str, int], boxes: Mapping[str, Size]
) -> dict[str, float]:
    above, below = _neighbours(segments)
    for linked in (above, below):  # a box goes by the boxes it is linked to, however many passes are between
        linked.update(
            {name: [one for one in dict.fromkeys(others) if name not in boxes or one in boxes] for name, others in linked.items()}
        )
    chained = {(one, other) for one, others in below.items() for other in others if len(others) == len(above[other]) == 1}

    def wish(name: str, *, up: bool, down: bool) -> float:
        linked = [(one, (one, name)) for one in above.get(name, ()) if up] + [(o, (name, o)) for o in below.get(name, ()) if down]
        weights = [(xs[other], STIFF if link in chained else 1) for other, link in linked]
        return sum(x * weight for x, weight in weights) / sum(weight for _, weight in weights) if weights else xs[name]

    xs: dict[str, float] = {}
    for row in rows:
        xs |= _spread([0.0] * len(row), row, widths, boxes)
    for sweep in range(SWEEPS + SETTLING):
        settling, down = sweep >= SWEEPS, sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wishes = [wish(name, up=down or settling, down=settling or not down) for name in row]
            xs |= _spread(wishes, row, widths, boxes)
    order = {name: number for number, name in enumerate(boxes)}
    for one, other in sorted((link for link in chained if link[1] in order and link[0] in order), key=lambda link: order[link[1]]):
        if abs(xs[one] - xs[other]) < NUDGE:
            xs[other] = xs[one]
    return xs


def _straighten(rows: Sequence[Sequence[str]], widths: Mapping[str, int], xs: dict[str, float]) -> None:
    """Put the passes of one trunk below each other, if there is a place that is free in all their rows."""
    trunks: dict[str, list[tuple[str, float, float]]] = {}
    for row in rows:
        for place, name in enumerate(row):
            if TRUNK in name:
                left = [xs[other] + (widths[name] + widths[other] + BETWEEN) / 2 for other in row[:place][-1:]]
                right = [xs[other] - (widths[name] + widths[other] + BETWEEN) / 2 for other in row[place + 1 :][:1]]
                trunk = trunks.setdefault(name.split(TRUNK)[0], [])
                trunk.append((name, left[0] if left else -inf, right[0] if right else inf))
    for passes in trunks.values():
        low, high = max(low for _, low, _ in passes), min(high for _, _, high in passes)
        if low <= high:
            xs.update(dict.fromkeys([name for name, _, _ in passes], min(max(_mean([xs[p[0]] for p in passes], 0), low), high)))


def _spread(wish: Sequence[float], row: Sequence[str], widths: Mapping[str, int], boxes: Mapping[str, Size]) -> dict[str, float]:
    """The places nearest to what is wished, in this order and far enough from each other."""
    offsets = [0.0]
    for one, other in pairwise(row):
        offsets.append(offsets[-1] + (widths[one] + widths[other]) / 2 + BETWEEN)
    pools: list[tuple[float, float, int]] = []  # the mean of some wishes, their weight, how many they are
    for name, at, offset in zip(row, wish, offsets, strict=True):
        pool = (at - offset, 1.0 if name in boxes else YIELDING, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, weight, count = pools.pop()
            whole = weight + pool[1]
            pool = ((mean * weight + pool[0] * pool[1]) / whole, whole, count + pool[2])
        pools.append(pool)
    means = [mean for mean, _, count in pools for _ in range(count)]
    return {name: mean + offset for name, mean, offset in zip(row, means, offsets, strict=True)}


def _neighbours(segments: Iterable[Segment]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for segment in segments:
        above.setdefault(segment.target, []).append(segment.source)
        below.setdefault(segment.source, []).append(segment.target)
    return above, below


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
