"""The map as an SVG: a table of who deals with whom, and below it each service with what it takes.

The naive way is a graph with an arrow for each relation. Twelve sagas with eight services have some sixty, all between the same two
columns, and nobody can follow one. In a table each relation is a place: a row is a saga or a reactor, a column is a service, and in the
cell stands what passes between the two. What a saga starts is below it, indented, so the table is a tree as well. It grows by a row for
each saga; and where services are many their names stand upright, so that dozens of both are still seen at a glance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from xml.sax.saxutils import escape

from saga.pictures.card import PADDING
from saga.pictures.measure import fitted, width_of
from saga.pictures.relations import OUTCOMES, Actor, Relations, Service, Starts
from saga.pictures.style import document, rect, tag, text

MARGIN, INDENT = 28, 24
ROW, HEAD = 46, 56
NARROWEST_COLUMN, MARK = 76, 24
UPRIGHT, NARROW = 12, 34  # with more services than that their names stand upright, and columns are as wide as their marks
CARD, BETWEEN, LINE = 292, 16, 19  # of the services' cards
NAMES = (230, 360)  # width of the first column, at least and at most


@dataclass(frozen=True)
class _Row:
    actor: Actor
    depth: int
    start: Starts | None  # by which it stands below another one
    line: str


def map_svg(relations: Relations) -> str:
    """The drawing. The same relations give the same bytes."""
    rows = _rows(relations)
    wishes = [INDENT * row.depth + 30 + max(width_of(row.actor.name, 14, bold=True), width_of(row.line, 12)) for row in rows]
    names = min(max(NAMES[0], ceil(max(wishes, default=0))), NAMES[1])
    head, columns = _columns(relations)
    table = names + sum(columns)
    across = max(1, (max(table, CARD) + BETWEEN) // (CARD + BETWEEN))
    width = max(table, across * (CARD + BETWEEN) - BETWEEN) + 2 * MARGIN
    y = MARGIN + head
    body = [*_heads(relations.services, head, columns, MARGIN + names)]
    for number, row in enumerate(rows):
        first_reactor = row.actor in relations.reactors and rows[number - 1].actor not in relations.reactors
        y += 34 if first_reactor else 0
        body.append(_row(relations, row, (names, columns), y, is_first=first_reactor))
        y += ROW
    body += _connectors(rows, MARGIN + head)
    legend, y = _legend(y + 30, bool(relations.reactors) or any(saga.hears for saga in relations.sagas))
    body.append(legend)
    cards, y = _cards(relations, across, y + 18)
    description = f"{len(relations.sagas)} sagas, {len(relations.services)} services, {len(relations.reactors)} reactors."
    return document("saga-map", "The sagas", description, (width, y + MARGIN), [*body, *cards])


def _rows(relations: Relations) -> list[_Row]:
    """Depth first: each saga once, below the first that starts it; then the reactors."""
    by_name = {saga.name: saga for saga in relations.sagas}
    rows: list[_Row] = []
    seen: set[str] = set()

    def add(name: str, depth: int, start: Starts | None) -> None:
        seen.add(name)
        rows.append(_Row(by_name[name], depth, start, _line(relations, by_name[name], start)))
        for one in relations.starts:
            if one.saga == name and one.other not in seen:
                add(one.other, depth + 1, one)

    for name in [*(name for name in by_name if not relations.parents(name)), *by_name]:
        if name not in seen:
            add(name, 0, None)
    return rows + [_Row(reactor, 0, None, "listens") for reactor in relations.reactors]


def _line(relations: Relations, saga: Actor, start: Starts | None) -> str:
    """The second line of a saga's name: how it begins, and whom it asks."""
    others = [one.saga for one in relations.parents(saga.name) if one != start]
    parts = [f"on {saga.starts_on}"] if start is None else ["child" if start.waits else "started, not waited for"]
    parts += [f"clock {clock}" for clock in saga.clocks]
    parts += [f"also by {', '.join(dict.fromkeys(others))}"] if others else []
    parts += [f"asks {', '.join(saga.roles)}"] if saga.roles else []
    return " · ".join(parts)


def _title(service: Service) -> str:
    return "saga.events" if service.name == OUTCOMES else service.name


def _columns(relations: Relations) -> tuple[int, list[int]]:
    """How high the heads are, and how wide each column is."""
    wide = [ceil(width_of(_title(service), 13, bold=True)) + 24 for service in relations.services]
    if len(wide) <= UPRIGHT:
        return HEAD, [max(NARROWEST_COLUMN, width) for width in wide]
    actors = [*relations.sagas, *relations.reactors]
    marks = (max((len(_marks(actor, service)) for actor in actors), default=0) for service in relations.services)
    return max(wide) + 8, [max(NARROW, MARK * count + 10) for count in marks]


def _heads(services: Sequence[Service], height: int, columns: Sequence[int], x: float) -> Iterable[str]:
    yield text("SAGAS", MARGIN, MARGIN + height - 28, "over")
    for service, width in zip(services, columns, strict=True):
        card = "card elsewhere" if service.where == "elsewhere" else "card"
        middle, title = x + width / 2, _title(service)
        yield rect(x + 3, MARGIN, width - 6, height - 8, card, 9)
        if len(services) > UPRIGHT:
            foot = f"rotate(-90 {middle + 4.5:g} {MARGIN + height - 20})"
            yield text(title, middle + 4.5, MARGIN + height - 20, "column", transform=foot)
        else:
            yield text(title, middle, MARGIN + 20, "column", text_anchor="middle")
            yield text(service.where, middle, MARGIN + 37, "soft", text_anchor="middle")
        x += width


def _row(relations: Relations, row: _Row, widths: tuple[int, Sequence[int]], y: int, *, is_first: bool) -> str:
    names, columns = widths
    x, middle = MARGIN + INDENT * row.depth, y + ROW / 2
    room = names - INDENT * row.depth - 20
    parts = [rect(MARGIN - 8, y + 2, names + sum(columns) + 16, ROW - 4, "row", 9)]
    if is_first:
        parts.insert(0, text("REACTORS", MARGIN, y - 8, "over"))
    parts.append(text(fitted(row.actor.name, room, 14, bold=True), x + 6, middle - 4, "actor"))
    parts.append(text(fitted(row.line, room, 12), x + 6, middle + 12, "soft"))
    at = MARGIN + names
    for service, width in zip(relations.services, columns, strict=True):
        parts += _cell(row.actor, service, at + width / 2, middle)
        at += width
    said = [f"{kind} {name}: {', '.join(what)}" for kind, name, what in _deals(row.actor)]
    return tag("g", parts, role="listitem", aria_label=". ".join([row.actor.name, row.line, *said])) + "\n"


def _deals(actor: Actor) -> Iterable[tuple[str, str, list[str]]]:
    yield from (("commands to", name, what) for name, what in actor.sends.items())
    yield from (("events of", name, what) for name, what in actor.hears.items())


def _marks(actor: Actor, service: Service) -> list[tuple[str, str, str]]:
    """What stands in a cell, up to three: its event starts the saga, so many commands to it, so many events of it. Class, count, hint."""
    sent, heard = actor.sends.get(service.name, []), actor.hears.get(service.name, [])
    marks = []
    if actor.started_by == service.name:
        marks.append(("starts", "", f"{actor.starts_on} starts {actor.name}"))
    if sent:
        marks.append(("commands", str(len(sent)), f"{actor.name} → {service.name}: {', '.join(sent)}"))
    if heard:
        what = ", ".join(event or "every event" for event in heard)
        marks.append(("events", str(len(heard)) if all(heard) else "∗", f"{service.name} → {actor.name}: {what}"))
    return marks


def _cell(actor: Actor, service: Service, x: float, y: float) -> Iterable[str]:
    """The marks beside each other."""
    marks = _marks(actor, service)
    if not marks:
        yield tag("circle", cx=x, cy=y, r=1.5, class_="nothing")
    for number, (class_, count, hint) in enumerate(marks):
        yield _mark(class_, count, x + (number - (len(marks) - 1) / 2) * MARK, y, hint)


def _mark(class_: str, count: str, x: float, y: float, hint: str = "") -> str:
    """A triangle, a full disc, a square: told apart without colours."""
    shapes = {
        "starts": tag("path", d=f"M{x - 6:g},{y - 8:g} L{x + 8:g},{y:g} L{x - 6:g},{y + 8:g} z", class_="mark-starts"),
        "commands": tag("circle", cx=f"{x:g}", cy=f"{y:g}", r=10.5, class_="mark-commands"),
        "events": rect(x - 9.5, y - 9.5, 19, 19, "mark-events", 4),
    }
    words = [text(count, x, y + 4, f"count-{class_}", text_anchor="middle")] if count else []
    return tag("g", [*([tag("title", escape(hint))] if hint else []), shapes[class_], *words])


def _connectors(rows: Sequence[_Row], top: int) -> Iterable[str]:
    """From each saga down to those that it starts: dashed where it does not wait for them."""
    tops = {row.actor.name: top + ROW * number for number, row in enumerate(rows)}
    for row in rows:
        if row.start is not None:
            x = MARGIN + INDENT * (row.depth - 1) + 12
            y0, y1 = tops[row.start.saga] + ROW - 3, tops[row.actor.name] + ROW // 2
            path = f"M{x},{y0} V{y1 - 8} Q{x},{y1} {x + 8},{y1} H{x + INDENT - 10}"
            yield tag("path", d=path, class_="flow" if row.start.waits else "flow chained")


def _legend(y: int, hears: bool) -> tuple[str, int]:
    entries = [("starts", "", "its event starts it"), ("commands", "n", "commands to it")]
    entries += [("events", "n", "its events are awaited, or listened to")] if hears else []
    x, parts = float(MARGIN + 10), []
    for class_, count, words in entries:
        parts += [_mark(class_, count, x, y - 4), text(words, x + 18, y, "soft")]
        x += 18 + width_of(words, 12) + 30
    return tag("g", parts), y


def _cards(relations: Relations, across: int, y: int) -> tuple[list[str], int]:
    """A card for each service, each in the column that is shortest so far."""
    ends = [y] * across
    drawn = []
    for service in relations.services:
        column = ends.index(min(ends))
        card, height = _card(service)
        drawn.append(
            tag("g", card, transform=f"translate({MARGIN + column * (CARD + BETWEEN)} {ends[column]})", role="listitem") + "\n"
        )
        ends[column] += height + BETWEEN
    return drawn, max(ends) - BETWEEN


def _card(service: Service) -> tuple[list[str], int]:
    lines = [("takes", command, sagas, command in service.unhandled) for command, sagas in service.commands.items()]
    lines += [("tells", event or "every event", actors, False) for event, actors in service.events.items()]
    height = 42 + LINE * len(lines) + (LINE if not lines else 0) + 8
    outside = service.where == "elsewhere"
    parts = [rect(0, 0, CARD, height, "card elsewhere" if outside else "card")]
    parts.append(text(fitted(_title(service), CARD - 120, 14, bold=True), PADDING, 26, "actor"))
    if outside:
        parts.append(text("not in this app", CARD - PADDING, 26, "soft", text_anchor="end"))
    for number, (verb, what, actors, missing) in enumerate(lines):
        y = 48 + LINE * number
        mark = "●" if verb == "takes" else "□"
        who = "no handler here" if missing else f"{'from' if verb == 'takes' else 'to'} {', '.join(dict.fromkeys(actors))}"
        name = fitted(what, CARD * 0.6, 12)
        room = CARD - 2 * PADDING - 18 - width_of(name, 12) - 8
        parts += [text(mark, PADDING, y, "soft"), text(name, PADDING + 18, y)]
        parts.append(text(fitted(who, room, 12), PADDING + 26 + width_of(name, 12), y, "bad-word" if missing else "soft"))
    if not lines:
        parts.append(text("nobody asks it for anything", PADDING, 48, "soft"))
    return [tag("title", escape(_title(service))), *parts], height
