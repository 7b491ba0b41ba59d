"""What the commands share that work on an open log: the tool itself, the definitions it can say more with, and options."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from saga.cli_parts import messages, named_app, run_to_end, settings
from saga.connect import opened
from saga.engine.book import Book
from saga.errors import Misconfigured
from saga.ops.commands import Tool
from saga.ops.output import Format, Output

SagaOption = Annotated[str | None, typer.Option("--saga", help="only this saga")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="the business id, e.g. the order id", show_default=False)]
StepOption = Annotated[str | None, typer.Option("--step", help="only those that wait, or are parked, at this step")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="only those parked for this reason, e.g. user-code")]
OlderOption = Annotated[str, typer.Option("--older", help="only those that began at least so long ago: 90s, 10m, 2h, 1d")]


def with_tool(format: Format, book: Book | None, command: Callable[[Tool], Awaitable[int]]) -> None:
    """Run a command on an open log; its result is the exit code. `book`: the definitions, where they are at hand."""

    async def run() -> int:
        async with opened(settings(), "saga-cli", make=False) as log:
            return await command(Tool(log, Output(format), messages, book))

    run_to_end(run())


def book_at_hand(app: str | None) -> Book | None:
    """The definitions of the app, if there is one here; without them an instance is only told in less detail."""
    try:
        return named_app(app).book
    except Exception:  # whatever the user's modules raise: the journal can be read all the same
        if app is not None:
            raise
        return None


def json_value(text: str, what: str) -> Any:
    """What stands on the command line as JSON. Raises Misconfigured."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise Misconfigured(f"{what} is not JSON: {error}") from None
