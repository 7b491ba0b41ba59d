"""`saga graph` and `saga map`: what is defined, as a drawing. Nothing is connected to, unless an instance is named; only the app's own
modules are imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from saga.app import App, Reactor
from saga.cli_parts import AppOption, named_app
from saga.cli_tool import with_tool
from saga.engine.book import Book
from saga.engine.definition import Saga
from saga.engine.state import Instance, Status, Waits, base_name
from saga.errors import Misconfigured
from saga.ops.acting import one
from saga.ops.commands import Tool
from saga.ops.operate import wall_clock
from saga.ops.output import FAILED, OK, Format
from saga.ops.why import why
from saga.pictures.flow import flow_of
from saga.pictures.flow_sketch import flow_sketch
from saga.pictures.flow_svg import COLUMNS, flow_svg
from saga.pictures.flow_text import Said, flow_text
from saga.pictures.map_sketch import map_sketch, map_text
from saga.pictures.map_svg import map_svg
from saga.pictures.relations import Relations, relations_of
from saga.pictures.sketch import dot, mermaid


class Picture(StrEnum):
    TEXT = "text"
    SVG = "svg"
    MERMAID = "mermaid"
    DOT = "dot"


_BY_SUFFIX = {".svg": Picture.SVG, ".mmd": Picture.MERMAID, ".dot": Picture.DOT, ".gv": Picture.DOT, ".txt": Picture.TEXT}
_UNDONE = (Status.COMPENSATED, Status.COMPENSATING)
# Of the states of a mapped step and its items, the one that stands later here is told.
_TELLING = ("", *(status for status in Status if status not in _UNDONE), *_UNDONE, "parked")
_STYLES = {
    "title": "bold",
    "accent": "bold magenta",
    "back": "yellow",
    "soft": "dim",
    "now": "cyan",
    "good": "green",
    "bad": "red",
    "": "",
}

PictureOption = Annotated[Picture | None, typer.Option("--format", "-f", help="else what --out ends with, else text")]
OutOption = Annotated[Path | None, typer.Option("--out", help="the file to write, in place of stdout")]


def graph(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the saga", show_default=False)],
    version: Annotated[int | None, typer.Option("--version", help="of the saga; else the newest")] = None,
    key: Annotated[str | None, typer.Option("--key", help="mark where this instance stands; read from the journal")] = None,
    format: PictureOption = None,
    out: OutOption = None,
    columns: Annotated[int, typer.Option("--columns", min=1, help="in an SVG, at most so many steps side by side")] = COLUMNS,
    app: AppOption = None,
) -> None:
    """Draw one saga.

    Its steps, conditions and time-outs, where there is no way back, and how it is undone. No server is needed; with --key the journal
    is read, and each step says how far it is.

    Exit code 2 if there is no such saga, 1 if no instance of it has this key.
    """
    book, wanted = named_app(app).book, _format(format, out)
    if key is None:
        _draw(_defined(book, name, version), wanted, out, columns)
        return
    if wanted not in (Picture.TEXT, Picture.SVG):
        raise Misconfigured(f"--key is for text and SVG; {wanted} cannot mark a step")

    async def drawn(tool: Tool) -> int:
        _defined(book, name, None)
        if not (found := await one(tool, key, name)):
            return FAILED
        _draw(_defined(book, name, found[0].version), wanted, out, columns, found[0])
        return OK

    with_tool(Format.TABLE, book, drawn)


def _defined(book: Book, name: str, version: int | None) -> Saga[Any, Any]:
    """Raises Misconfigured if there is none."""
    saga = book.definition(name) if version is None else {one.version: one for one in book.all() if one.name == name}.get(version)
    if saga is None:
        known = ", ".join(f"{one.name} v{one.version}" for one in book.all())
        raise Misconfigured(f"no saga {name}{f' v{version}' if version else ''} in this app; there are {known}")
    return saga


def _draw(saga: Saga[Any, Any], wanted: Picture, out: Path | None, columns: int, of: Instance | None = None) -> None:
    """`of`: an instance whose steps are marked."""
    flow, states = flow_of(saga), None if of is None else states_of(of)
    if wanted is Picture.TEXT:
        why_now = [] if of is None else [Said("", ""), Said("", why(of, wall_clock(), saga))]
        _say([*flow_text(flow, states), *why_now], out)
    elif wanted is Picture.SVG:
        _write(flow_svg(flow, states, columns), out)
    else:
        _write((mermaid if wanted is Picture.MERMAID else dot)(flow_sketch(flow)), out)


def states_of(of: Instance) -> dict[str, str]:
    """What each step is, in a word: "parked" where it waits for an operator; a mapped step is undone where one of its items is."""
    found: dict[str, str] = {}
    for name, step in of.steps.items():
        word = "parked" if step.waits is Waits.OPERATOR else str(step.status)
        if "/" not in name or word in (*_UNDONE, "parked"):
            found[base_name(name)] = max(word, found.get(base_name(name), ""), key=_TELLING.index)
    return found


def map_(
    saga: Annotated[
        list[str], typer.Option("--saga", help="only this saga, and what it starts or is started by; may be repeated")
    ] = [],  # noqa: B006
    format: PictureOption = None,
    out: OutOption = None,
    app: AppOption = None,
) -> None:
    """Draw how all sagas, services and reactors hang together.

    Who starts whom, which service takes which commands, who waits for or listens to which events, and which commands have no handler
    in a participant of this app. No server is needed.

    Exit code 2 if there is no such saga.
    """
    found = named_app(app)
    for name in saga:
        if name not in found.book.sagas:
            raise Misconfigured(f"no saga {name} in this app; there are {', '.join(found.book.sagas)}")
    relations, wanted = relations_of_app(found, frozenset(saga)), _format(format, out)
    if wanted is Picture.TEXT:
        _say(map_text(relations), out)
    elif wanted is Picture.SVG:
        _write(map_svg(relations), out)
    else:
        _write((mermaid if wanted is Picture.MERMAID else dot)(map_sketch(relations)), out)


def relations_of_app(app: App, only: frozenset[str] = frozenset()) -> Relations:
    handled = {participant.name: frozenset(participant.handlers) for participant in app.participants.values()}
    return relations_of(app.book.sagas.values(), handled, {one.name: _listens(one) for one in app.reactors}, only)


def _listens(reactor: Reactor) -> Sequence[tuple[str, str]]:
    """(service, event), the event "" for all of a topic."""
    return [
        (what.removesuffix(".events"), "") if isinstance(what, str) else (what.__service__, what.__name__)
        for what in reactor.listens
    ]


def _format(format: Picture | None, out: Path | None) -> Picture:
    if format is not None or out is None:
        return format or Picture.TEXT
    if out.suffix not in _BY_SUFFIX:
        raise Misconfigured(f"which format is {out.name}? say -f, or end it with {', '.join(_BY_SUFFIX)}")
    return _BY_SUFFIX[out.suffix]


def _write(drawing: str, out: Path | None) -> None:
    """Bytes as they are: the same on every machine, whatever its line ends and encoding. Raises Misconfigured if it cannot be written."""
    if out is None:
        sys.stdout.write(drawing)
        return
    try:
        out.write_text(drawing, encoding="utf-8", newline="\n")
    except OSError as error:
        raise Misconfigured(f"{out} cannot be written: {error.strerror}") from None


def _say(lines: Sequence[Said], out: Path | None) -> None:
    if out is not None:
        _write("".join(f"{line.text}\n" for line in lines), out)
        return
    console = Console(highlight=False, soft_wrap=True)
    for style, words in lines:
        console.print(Text(words, style=_STYLES[style]))
