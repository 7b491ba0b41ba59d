"""`saga participant check`: is a participant right, in whatever language it is written?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from saga.cli_parts import AppOption, FormatOption, messages, named_app, run_to_end, settings
from saga.conformance import Asked, Result, Samples, Subject, check, plan, read_samples, subject
from saga.conformance.player import NAME
from saga.conformance.report import summary, tell, tell_plan
from saga.conformance.session import DEFAULT_KEYS, DEFAULT_PATIENCE, nobody
from saga.connect import opened
from saga.ops.output import OK, PROBLEMS, Format, Output
from saga.ops.words import parse_duration

participant_cli = typer.Typer(no_args_is_help=True, help="Services that take commands.")


@participant_cli.callback()
def participant() -> None:
    """Services that take commands."""


@participant_cli.command("check")
def participant_check(
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help="the participant's name, as in <service>.commands", show_default=False)
    ],
    app: AppOption = None,
    samples: Annotated[Path | None, typer.Option("--samples", help="JSON file: command type to a list of its data")] = None,
    remembers: Annotated[str, typer.Option("--remembers", help="how long it remembers commands, e.g. 30d; else not tested")] = "",
    keys: Annotated[int, typer.Option("--keys", min=1, max=1000, help="so many keys at once")] = DEFAULT_KEYS,
    wait: Annotated[float, typer.Option("--wait", min=0.1, help="how many seconds to wait for an answer")] = DEFAULT_PATIENCE,
    garbage: Annotated[bool, typer.Option(help="send what cannot be read, too")] = True,
    yes: Annotated[bool, typer.Option("--yes", help="do it; without it the plan is only shown")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Play the orchestrator to a participant that runs, and hold each answer against docs/PROTOCOL.md.

    It sends real commands, which have real effects, under keys that begin with participant-check-. So without --yes it only shows
    what it would send. Where its effects have a compensation they are undone at the end.

    An orchestrator may run meanwhile. To it these answers are of no instance it knows: it notes them as unmatched, and counts them.

    Exit code 0 if all that was looked at holds, 3 if anything does not, 1 if the log does not answer.
    """
    of = subject(named_app(app).book.sagas, service, read_samples(samples) if samples is not None else Samples())
    asked = Asked(wait, keys, parse_duration(remembers) if remembers else None, garbage)
    run_to_end(_check(of, asked, yes, Output(output)))


@contextmanager
def stopped_half_way() -> Iterator[None]:
    """Whoever stops it, or whatever does, is told what that leaves."""
    try:
        yield
    except BaseException:
        messages.print(f"stopped half-way: what was done so far is not undone; its keys begin with {NAME}-", markup=False)
        raise


async def _check(of: Subject, asked: Asked, yes: bool, output: Output) -> int:
    async with opened(settings(), "saga-cli", make=False) as log:
        planned = await plan(log, of, asked)
        if not yes:
            tell_plan(planned, output)
            messages.print("Nothing was sent. To do it: --yes", markup=False)
            return OK
        if output.for_people:
            tell_plan(planned, output)
            output.text("")
        with stopped_half_way():
            checked = await check(log, of, asked, partial(tell, output=output) if output.for_people else nobody)
    if not output.for_people:
        output.values([finding.to_json() for finding in checked.findings])
    messages.print(summary(checked), markup=False, soft_wrap=not messages.is_terminal)
    return PROBLEMS if any(finding.result is Result.FAILED for finding in checked.findings) else OK
