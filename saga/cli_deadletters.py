"""`saga deadletters`: what could not be read or taken, and sending it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from saga.cli_parts import FormatOption
from saga.cli_tool import with_tool
from saga.errors import Misconfigured
from saga.log.base import Outgoing
from saga.ops.commands import Tool
from saga.ops.deadletters import DeadLetter, Place, Wanted, chosen, redrive, ways_back
from saga.ops.lines import Tone
from saga.ops.operate import DEFAULT_RATE, wall_clock
from saga.ops.output import FAILED, OK, Format
from saga.ops.words import coarse, counted, named, parse_duration, plain

_HEADINGS = ("AT", "AGE", "ORIGIN", "TYPE", "KEY", "WHY")


def deadletters_command(
    at: Annotated[
        list[str] | None, typer.Argument(metavar="AT", help="only these, as the list names them, e.g. 5:78", show_default=False)
    ] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="only those that came from this topic")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="only those set aside for this reason, e.g. schema")] = None,
    key: Annotated[str | None, typer.Option("--key", help="only those of this key, or with it as their subject")] = None,
    older: Annotated[str, typer.Option("--older", help="only those set aside at least so long ago: 90s, 10m, 2h, 1d")] = "0s",
    limit: Annotated[int, typer.Option("--limit", min=0, help="at most so many, the latest; 0 for all")] = 50,
    again: Annotated[
        bool, typer.Option("--redrive", help="publish them again where they came from; shown only, without --yes")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do it")] = False,
    rate: Annotated[float, typer.Option("--rate", min=0.01, help="at most so many a second")] = DEFAULT_RATE,
    output: FormatOption = Format.TABLE,
) -> None:
    """List dead letters, the oldest first: what could not be read or taken, where it came from, and why it was set aside.

    With --redrive --yes each is published again as it came, where it came from. Do that when the cause is gone: what still cannot be
    taken becomes a dead letter once more. What was taken already changes nothing, by its id. Nothing is removed from the list.
    Of many, those stay that cannot go back, or that somebody has to look at first; each is told with the reason.

    Exit code 0, also if there are none; 1 if one that is named is not there; 2 if one that is named cannot be redriven.
    """
    wanted = Wanted([_place(text) for text in at or ()], topic, reason, key, parse_duration(older))
    if yes and not again:
        raise Misconfigured("--yes says to do it; say what: --redrive")
    limit = 0 if again else limit  # what is to be done is done to all that fit, and shown as it will be
    with_tool(output, None, lambda tool: deadletters(tool, wanted, limit, rate if again and yes else 0.0, redriven=again))


async def deadletters(tool: Tool, wanted: Wanted, limit: int, rate: float, *, redriven: bool) -> int:
    """List them, or what would be redriven; with a `rate`, a second, publish them again. The exit code."""
    now = wall_clock()
    found = await chosen(tool.log, wanted, now)
    if missing := set(wanted.places) - {letter.place for letter in found}:
        tool.say(f"saga: no such dead letter: {', '.join(map(str, sorted(missing)))}")
        return FAILED
    if not redriven:
        shown = found[-limit:] if limit else found
        _show(tool, shown, now)
        if tool.output.for_people:
            more = f"; the latest {len(shown)} are shown, --limit 0 shows all" if len(shown) < len(found) else ""
            tool.say(f"{counted(len(found), 'dead letter') if found else 'no dead letters'}{more}")
        return OK
    goes, stays = await ways_back(tool.log, found, wanted)
    for text in stays:
        tool.say(text)
    if not rate:
        _show(tool, [letter for letter, _ in goes], now)
        tool.say(f"{len(goes)} would be published again; nothing was done. To do it: --redrive --yes")
        return OK
    return await _redrive(tool, goes, rate)


async def _redrive(tool: Tool, goes: Sequence[tuple[DeadLetter, Outgoing]], rate: float) -> int:
    done: list[DeadLetter] = []
    try:
        async for letter, record in redrive(tool.log, goes, rate):
            done.append(letter)
            if tool.output.for_people:
                of = f"{plain(letter.type) or 'it'}, key {named(letter.key)}, " if letter.key else f"{plain(letter.type) or 'it'} "
                tool.output.text(f"{letter.place}: {of}is in {record.to} again", Tone.GOOD)
    finally:  # also for who is stopped, or meets a log that does not answer
        if not tool.output.for_people:
            tool.output.values([letter.to_json() for letter in done])
        what = f"{len(done)} of {len(goes)} published again"
        tool.say(f"{what}; what became of each, `saga show KEY` says, or this list if it is a dead letter")
    return OK


def _show(tool: Tool, letters: list[DeadLetter], now: int) -> None:
    if not tool.output.for_people:
        tool.output.values([letter.to_json() for letter in letters])
        return
    rows = [
        (
            str(letter.place),
            coarse(max(0, now - letter.at)),
            plain(letter.origin),
            plain(letter.type),
            named(letter.key) if letter.record.key is not None else "",
            plain(letter.why),
        )
        for letter in letters
    ]
    tool.output.table(_HEADINGS, [(Tone.PLAIN, row) for row in rows])


def _place(text: str) -> Place:
    """Raises Misconfigured."""
    partition, _, offset = text.removeprefix("saga.deadletter:").partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise Misconfigured(f"a dead letter is named by where it stands, like 5:78, not {text!r}")
    return Place(int(partition), int(offset))
