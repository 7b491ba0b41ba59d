"""How the demo looks on a terminal: lines of a given width, as many as there is room for, from a view. Pure.

One column from 60 to 119 characters. From 120 on the tales of orders in trouble have a column of their own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from saga.ops.lines import Tone
from saga.ops.words import duration
from services.checkout.tale import SIGNS, Tale
from services.checkout.watch import Owner, Series, View

WIDE = 120  # columns, from where on there are two
NARROWEST = 60
AIRY = 29  # rows, from where on a blank line sets the sections apart
NEWS = 8  # lines, at most, in the wide picture
LEFT = (64, 80)  # columns, at least and at most, of the numbers in the wide picture
GAP = 4
TROUBLE = "an order in trouble"
NAME = 14  # columns of an orchestrator's name
LABEL, NUMBER, RATE = 7, 5, 8  # columns of a series' name, count and rate
_HEIGHTS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_STYLES = {Tone.GOOD: "green", Tone.BAD: "yellow", Tone.STUCK: "bold red", Tone.PLAIN: ""}
_OUTCOMES = {"completed": "green", "compensated": "yellow", "parked": "bold red", "in flight": "cyan"}
_STATES = {"completed": "green", "compensating": "yellow", "compensated": "yellow", "parked": "bold red"}


@dataclass(frozen=True)
class Head:
    """What stands above the numbers. `news`: what the demo said so far, each with the time since its start."""

    where: str
    clock: str
    news: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Picture:
    """A view as Rich draws it, as large as the console is."""

    head: Head
    view: View

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in lines(self.head, self.view, options.max_width, options.height or console.height):
            line.no_wrap = True
            yield line


def lines(head: Head, view: View, width: int, height: int) -> list[Text]:
    """At most `height` lines, none wider than `width`."""
    space = [Text()] if height >= AIRY else []
    if width < WIDE:
        found = _numbers(head, view, width, space, news=1)
        found += [*_waits(view, width, 3 if space else 2), *space]
        found += _tales(view.tales[:1], width, height - len(found))
        return [_cut(line, width) for line in found[:height]]
    left = max(LEFT[0], min(LEFT[1], width * 9 // 20))
    right = width - left - GAP
    numbers, tales = _numbers(head, view, left, space, news=NEWS), _tales(view.tales, right, height)
    numbers += _waits(view, left, height - len(numbers) - 1)
    missing = len(numbers) - len(tales)
    numbers += [Text()] * -missing
    tales += [Text()] * missing
    both = zip(numbers, tales, strict=True)
    return [Text.assemble(_filled(_cut(one, left), left + GAP), _cut(other, right)) for one, other in both][:height]


def _numbers(head: Head, view: View, width: int, space: list[Text], news: int) -> list[Text]:
    most = width * 3 // 5  # the curves of orders need more room than the bars of outcomes
    return [
        *_head(head, width, news),
        *space,
        *_beside(_orders(view, most - 2), _outcomes(view, width - most), most),
        *space,
        *_partitions(view, width),
        *space,
    ]


def _head(head: Head, width: int, news: int) -> Iterator[Text]:
    title = Text.assemble(("saga-kafka", "bold"), "  ", (f"checkout on {head.where}", "dim"))
    yield _filled(title, width - len(head.clock)).append(head.clock, "bold")
    latest = len(head.news) - 1
    for number, (at, text) in list(enumerate(head.news))[-news:]:
        yield Text.assemble((f"{at}  ", "dim"), (text, "" if number == latest else "dim"))


def _orders(view: View, width: int) -> Iterator[Text]:
    most = max([1.0, *_fitted(view.placed, width), *_fitted(view.ended, width)])
    half, most_of_them = (duration(ms) for ms in view.took) if view.took is not None else ("–", "–")
    yield _rule("orders", width)
    yield _rate("placed", view.placed, most, width, "cyan")
    yield _rate("ended", view.ended, most, width, "green")
    yield Text.assemble(("half of them within ", "dim"), half)
    yield Text.assemble(("        95 % within ", "dim"), most_of_them)


def _rate(name: str, series: Series, most: float, width: int, style: str) -> Text:
    line = Text(f"{name:<{LABEL}}{series.total:{NUMBER}}  ")
    for value in _fitted(series, width):
        line.append(_HEIGHTS[round(value / most * 7)], style if value else "dim")
    return _filled(line, width - RATE).append(f"{series.rate:{RATE - 2}.1f}/s")


def _fitted(series: Series, width: int) -> list[float]:
    """The whole run in the columns that a line of `width` leaves: each the mean of as many seconds as it takes."""
    room = width - LABEL - NUMBER - 2 - RATE
    step = -(-len(series.by_second) // room) or 1
    chunks = [series.by_second[at : at + step] for at in range(0, len(series.by_second), step)]
    return [sum(chunk) / len(chunk) for chunk in chunks]


def _outcomes(view: View, width: int) -> Iterator[Text]:
    yield _rule("outcomes", width)
    for name, count in view.outcomes.items():
        line = Text(f"{name:<12}{count:4}  ", style="" if count else "dim")
        yield line.append(_bar(count / max(view.placed.total, 1), width - len(line)), _OUTCOMES[name])


def _bar(share: float, width: int) -> str:
    whole, rest = divmod(round(share * width * 8), 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _partitions(view: View, width: int) -> Iterator[Text]:
    yield _rule("partitions of the journal", width)
    lost = view.take_over.lost if view.take_over is not None else frozenset()
    for owner in view.owners:
        yield _owner(owner, lost, view.partitions, width)
    yield _take_over(view)


def _owner(owner: Owner, lost: frozenset[int], partitions: int, width: int) -> Text:
    dead = owner.killed is not None
    line = Text.assemble((f"{owner.name:<{NAME}}  ", "red" if dead else ""))
    cell = 2 if NAME + 2 + 2 * partitions + 16 <= width else 1
    for number in range(partitions):
        if number not in owner.partitions:
            line.append("·".ljust(cell), "dim")
        else:
            line.append(("□" if dead else "■").ljust(cell), "red" if dead else "green" if number in lost else "cyan")
    if owner.killed is None:
        return line.append(f"{' ' * (3 - cell)}{len(owner.partitions)} of {partitions}", "dim")
    return line.append(f"{' ' * (3 - cell)}killed {owner.killed / 1000:.0f} s ago", "bold red" if owner.partitions else "dim")


def _take_over(view: View) -> Text:
    found, owned = view.take_over, sum(len(owner.partitions) for owner in view.owners)
    if owned < view.partitions:
        return Text(f"{owned} of {view.partitions} have an owner so far", "dim")
    if found is None:
        return Text("each has one owner, who alone decides in it", "dim")
    if found.claimed is None:
        unread = f"; orders that nobody has begun with: {view.unread}" if view.unread else ""
        return Text(f"nobody decides in {found.left} of them{unread}", "bold red")
    decided = f", the first decision after {found.decided / 1000:.1f} s" if found.decided is not None else ""
    return Text(f"taken over {found.claimed / 1000:.1f} s after the kill{decided}", "green")


def _waits(view: View, width: int, height: int) -> list[Text]:
    """In `height` lines: one order told in two or three is better than two of which each lacks its end."""
    found = [_rule("waits longest", width)]
    for sentence in view.waits:
        room = height - len(found) + 1
        if room < (2 if len(found) > 1 else 1):
            break
        told = textwrap.wrap(sentence, width, max_lines=min(room, 3), placeholder=" …", subsequent_indent="  ")
        found += map(Text, told)
    if not view.waits:
        found.append(Text("no order waits for anything", "dim"))
    return found + [Text()] * (height + 1 - len(found))  # what is below does not jump


def _tales(tales: Sequence[Tale], width: int, height: int) -> list[Text]:
    """As many as there is room for; of the first, the end, if it is too long."""
    if not tales:
        return [_rule(TROUBLE, width), Text("none so far", "dim")]
    found: list[Text] = []
    for tale in tales:
        if found:
            found.append(Text())
        found.append(_rule(tale.key if found else f"{TROUBLE}: {tale.key}", width, tale.state))
        told = [list(_folded(*line, width)) for line in _margins(tale)]
        room = height - len(found)
        if room < sum(map(len, told)) and len(found) > 1:
            return found[:-2]
        found += _ended(told, room)
    return found


def _ended(told: list[list[Text]], room: int) -> list[Text]:
    """All decisions in so many lines, or the first and the last of them, each whole."""
    kept, room = list(told), room - 1
    while len(kept) > 2 and sum(map(len, kept)) > room + (len(kept) == len(told)):
        del kept[1]
    if len(kept) < len(told):
        kept.insert(1, [Text(" ⋮", "dim")])
    return [line for lines in kept for line in lines]


def _margins(tale: Tale) -> Iterator[tuple[str, Tone, str]]:
    widest = max((len(line.since) for line in tale.lines), default=0)
    yield from ((f"{line.since:>{widest}}  ", line.tone, line.text) for line in tale.lines)


def _folded(since: str, tone: Tone, text: str, width: int) -> Iterator[Text]:
    sign, style = f"{SIGNS[tone]} ", _STYLES[tone]
    margin = len(since) + len(sign)
    for number, part in enumerate(textwrap.wrap(text, max(width - margin, NARROWEST // 2), break_on_hyphens=False)):
        begin = Text.assemble((since, "dim"), (sign, style)) if number == 0 else Text(" " * margin)
        yield begin.append(part, "" if tone is Tone.GOOD else style)


# --- lines ------------------------------------------------------------------------------------------------------------------------


def _rule(title: str, width: int, state: str = "") -> Text:
    line = Text.assemble((f"{title} ", "bold"))
    if state:
        line.append(f"{state} ", _STATES.get(state, ""))
    return line.append("─" * (width - len(line)), "dim")


def _beside(left: Iterable[Text], right: Iterable[Text], at: int) -> list[Text]:
    return [Text.assemble(_filled(one, at), other) for one, other in zip(left, right, strict=True)]


def _filled(line: Text, width: int) -> Text:
    """As wide as that, exactly: a name may hold characters that take two columns."""
    line = line.copy()
    line.truncate(width, overflow="ellipsis", pad=True)
    return line


def _cut(line: Text, width: int) -> Text:
    line = line.copy()
    line.truncate(width, overflow="ellipsis")
    return line
