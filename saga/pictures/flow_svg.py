"""A saga as an SVG: time goes down, the way back goes up.

A card for each step, in rows; a solid arrow to what comes next, and beside it, dashed, the way back: it leaves a card at its top and comes
to the compensation at the foot of the card above. From the pivot on there are no dashed lines, and a dotted one says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from saga.pictures.card import LETTER, NARROWEST, WIDEST, draw, size_of, width_for
from saga.pictures.flow import Flow, Kind
from saga.pictures.layers import Layout, Segment, Size, lay_out
from saga.pictures.measure import width_of
from saga.pictures.style import document, head, rect, tag, text

COLUMNS = 4  # boxes side by side, unless the caller says otherwise: about as wide as a page
MARGIN = 28
GAP, FLATTEST = 48, 14  # between rows; and for each so many px that a line has to go sideways, 1 more
GAP_AT_PIVOT = 28  # more, for the line that says that there is no way back
ASIDE = 9  # forward and back lines are so far left and right of the middle
APART = 10
ARROW = 12  # of straight line before an arrow's head, so that it points where it should
TIP = 2  # px between an arrow and what it points to
NO_WAY_BACK = "no way back from here"


@dataclass(frozen=True)
class _Page:
    """A layout with heights: `tops` and `bottoms` of its rows, `sizes` of its boxes. `last`: the row below which there is no way back."""

    flow: Flow
    layout: Layout
    sizes: Mapping[str, Size]
    tops: list[int]
    bottoms: list[int]
    last: int | None

    def x(self, name: str) -> int:
        return self.layout.places[name].x + MARGIN

    @property
    def width(self) -> int:
        return self.layout.width + 2 * MARGIN

    def back(self, segment: Segment) -> list[tuple[str, str]]:
        """Those of its links that are also a way back."""
        returns = {(link.source, link.target) for link in self.flow.links if link.back}
        return [link for link in segment.links if link in returns]


def flow_svg(flow: Flow, states: Mapping[str, str] | None = None, columns: int = COLUMNS) -> str:
    """The drawing. `states`: of an instance's steps by name, as `card.STATES` knows them. The same input gives the same bytes."""
    page = _page(flow, columns)
    id = f"saga-{flow.name}"
    legend, end = _legend(flow, id, page.width, page.bottoms[-1] + 34)
    body = [
        tag("defs", head(f"{id}-next", "flow-head") + head(f"{id}-back", "back-head")),
        *_border(page),
        tag("g", _lines(page, id), aria_hidden="true"),
        tag("g", ["\n", *_boxes(page, states or {})], role="list"),
        legend,
    ]
    return document(id, f"The saga {flow.name}, version {flow.version}", _description(flow, states), (page.width, end), body)


def _page(flow: Flow, columns: int) -> _Page:
    width = min(WIDEST, max(NARROWEST, ceil(max(width_for(box) for box in flow.boxes))))
    sizes = {box.name: size_of(box, width + width % 2) for box in flow.boxes}
    layout = lay_out(sizes, [(link.source, link.target) for link in flow.links], columns)
    last = _last_row_with_a_way_back(flow, layout)
    tops, bottoms, y = [], [], MARGIN
    for number, row in enumerate(layout.rows):
        tops.append(y)
        bottoms.append(y + max((sizes[name].height for name in row if name in sizes), default=0))
        aside = [abs(layout.places[s.source].x - layout.places[s.target].x) for s in layout.segments if s.source in row]
        gap = GAP + max(aside, default=0) // FLATTEST
        y = bottoms[-1] + gap + (GAP_AT_PIVOT if number == last else 0)
    return _Page(flow, layout, sizes, tops, bottoms, last)


def _last_row_with_a_way_back(flow: Flow, layout: Layout) -> int | None:
    """The row of the pivots, if one line can be drawn below it with all that can be undone above, and nothing of it below."""
    rows = {name: place.row for name, place in layout.places.items()}
    if not flow.pivots:
        return None
    last = max(rows[name] for name in flow.pivots)
    fits = all((rows[box.name] > last) == (box.name in flow.forward or box.kind is Kind.END) for box in flow.boxes)
    return last if fits else None


def _boxes(page: _Page, states: Mapping[str, str]) -> Iterable[str]:
    for box in page.flow.boxes:
        size, place = page.sizes[box.name], page.layout.places[box.name]
        drawn = draw(box, size, states.get(box.name, ""))
        yield tag("g", drawn, transform=f"translate({page.x(box.name) - size.width // 2} {page.tops[place.row]})") + "\n"


def _lines(page: _Page, id: str) -> Iterable[str]:
    back, forward = [], []
    beside = {end for segment in page.layout.segments if page.back(segment) for end in (f"below {segment.source}", segment.target)}
    for segment in page.layout.segments:
        start, stop = (ASIDE if end in beside else 0 for end in (f"below {segment.source}", segment.target))
        forward.append(_forward(page, segment, (-start, -stop), f"{id}-next"))
        if page.back(segment):
            back.append(_back(page, segment, f"{id}-back"))
    return [*back, *forward]


def _forward(page: _Page, segment: Segment, aside: tuple[int, int], marker: str) -> str:
    """Down the gap between two rows; and through the next row, where there is only a pass."""
    (x0, y0), (x1, y1) = _ends(page, segment)
    x0, x1 = x0 + aside[0], x1 + aside[1]
    row_end, row_begin = _gap(page, segment)
    bend = (row_end + row_begin) // 2 + _apart(x1 - x0)
    path = f"M{x0},{y0} L{x0},{row_end} C{x0},{bend} {x1},{bend} {x1},{row_begin - ARROW}"
    if segment.target not in page.sizes:
        return tag("path", d=f"{path} L{x1},{page.bottoms[page.layout.places[segment.target].row]}", class_="flow",
                   data_links=_named(segment.links))  # fmt: skip
    return tag("path", d=f"{path} L{x1},{y1 - TIP}", class_="flow", data_links=_named(segment.links), marker_end=f"url(#{marker})")


def _back(page: _Page, segment: Segment, marker: str) -> str:
    """The same upwards, on the other side."""
    (x0, y0), (x1, y1) = _ends(page, segment)
    x0, x1 = x0 + ASIDE, x1 + ASIDE
    row_end, row_begin = _gap(page, segment)
    bend = (row_end + row_begin) // 2 - _apart(x1 - x0)
    path = f"M{x1},{y1} L{x1},{row_begin} C{x1},{bend} {x0},{bend} {x0},{row_end + ARROW}"
    if segment.source not in page.sizes:
        return tag("path", d=f"{path} L{x0},{row_end}", class_="back", data_back=_named(page.back(segment)))
    return tag(
        "path", d=f"{path} L{x0},{y0 + TIP}", class_="back", data_back=_named(page.back(segment)), marker_end=f"url(#{marker})"
    )


def _ends(page: _Page, segment: Segment) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where a line leaves the box or pass above, and where it comes to the one below."""
    source, target = page.layout.places[segment.source], page.layout.places[segment.target]
    size = page.sizes.get(segment.source)
    y0 = page.tops[source.row] + size.height if size else page.bottoms[source.row]
    y1 = page.tops[target.row] if segment.target in page.sizes else page.bottoms[target.row]
    return (page.x(segment.source), y0), (page.x(segment.target), y1)


def _gap(page: _Page, segment: Segment) -> tuple[int, int]:
    """The part between two rows in which lines go sideways: from y to y."""
    row = page.layout.places[segment.source].row
    return page.bottoms[row] + (GAP_AT_PIVOT if row == page.last else 0), page.tops[row + 1]


def _apart(sideways: int) -> int:
    """By how much a forward line bends lower, and a back line higher: so they stay apart where they go sideways, and never cross."""
    return APART if sideways > 0 else -APART if sideways < 0 else 0


def _named(links: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{source}>{target}" for source, target in links)


def _border(page: _Page) -> list[str]:
    """The line below the pivots. Its words are where no arrow crosses it, if there is such a place."""
    if page.last is None:
        return []
    y, width = page.bottoms[page.last] + GAP_AT_PIVOT // 2, page.width
    wide = ceil(width_of(NO_WAY_BACK, 10, bold=True) + LETTER * len(NO_WAY_BACK)) + 10
    crossed = [page.x(segment.source) for segment in page.layout.segments if page.layout.places[segment.source].row == page.last]
    places = [MARGIN // 2, width - MARGIN // 2 - wide, (width - wide) // 2]
    x = next((x for x in places if not any(x - ASIDE < line < x + wide + ASIDE for line in crossed)), places[0])
    line = tag("path", d=f"M{MARGIN // 2},{y} H{width - MARGIN // 2}", class_="border")
    return [line, rect(x - 4, y - 9, wide, 18, "canvas", 4), text(NO_WAY_BACK, x + 1, y + 3.5, "over no-way-back")]


def _legend(flow: Flow, id: str, width: int, y: int) -> tuple[str, int]:
    """What the lines mean, as far as there are such; and where the drawing ends."""
    entries = [("flow", f"{id}-next", "comes next")]
    if any(link.back for link in flow.links):
        entries.append(("back", f"{id}-back", "way back: it failed, or time is up"))
    x, parts = MARGIN, []
    for class_, marker, words in entries:
        wide = 34 + width_of(words, 12) + 24
        if x > MARGIN and x + wide > width:
            x, y = MARGIN, y + 20
        parts.append(tag("path", d=f"M{x},{y - 4} H{x + 26}", class_=class_, marker_end=f"url(#{marker})"))
        parts.append(text(words, x + 34, y, "soft"))
        x += ceil(wide)
    return tag("g", parts), y + 22


def _description(flow: Flow, states: Mapping[str, str] | None) -> str:
    """The whole in sentences, for whoever hears the drawing."""
    sentences = []
    for box in flow.boxes[1:-1]:
        before = [flow.box(link.source).title for link in flow.links if link.target == box.name]
        sentences.append(f"{box.name} ({', '.join([box.kind, *box.marks])}) after {' and '.join(before)}.")
        if states and box.name in states:
            sentences.append(f"It is {states[box.name]}.")
    return " ".join(sentences)
