"""`saga check` and `saga journal export`: the code at hand against a journal, where the log is, or where only a file of it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from saga.cli_parts import AppOption, FormatOption, messages, named_app, run_to_end, settings
from saga.connect import opened
from saga.log.base import Log
from saga.ops.check import Asked, Code, check
from saga.ops.look import Journals
from saga.ops.output import OK, Format, Output
from saga.ops.recorded import Recorded, export

journal_cli = typer.Typer(no_args_is_help=True, help="The journal as a file.")


@journal_cli.callback()
def journal() -> None:
    """The journal as a file."""


def check_command(
    app: AppOption = None,
    journal: Annotated[Path | None, typer.Option("--journal", help="a file of `saga journal export`, in place of the log")] = None,
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="only this partition of the journal")] = None,
    last: Annotated[int | None, typer.Option("--last", min=0, help="decide again only the last so many decisions of each")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Check the code at hand against the journal, before it is deployed.

    Are all versions there that instances run, with the structure they had; can it read what live instances hold; and what would it
    decide otherwise than was decided. The functions of the sagas are run; nothing is sent, written or joined.

    Exit code 0 if nothing breaks, 3 if something does; what it would only decide otherwise is told.
    """
    found, asked = named_app(app), Asked(partition, last)
    code = Code(found.book, found.partitions)
    if journal is not None:
        run_to_end(check(Recorded(journal), code, asked, Output(output), messages))
    else:
        run_to_end(_with_log(lambda log: check(log, code, asked, Output(output), messages)))


@journal_cli.command("export")
def journal_export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="where to write it: a line of JSON for each record", show_default=False)
    ],
) -> None:
    """Write the journal to a file, for `saga check --journal`. It holds all data of all instances: treat it as such."""
    run_to_end(_with_log(lambda log: _export(log, file)))


async def _export(log: Log, path: Path) -> int:
    partitions = await Journals(log).partitions()  # before there is a file that is empty
    with path.open("w", encoding="utf-8") as file:
        written = await export(log, file, partitions)
    messages.print(f"{written} records are in {path}", markup=False)
    return OK


async def _with_log(command: Callable[[Log], Awaitable[int]]) -> int:
    async with opened(settings(), "saga-cli", make=False) as log:
        return await command(log)
