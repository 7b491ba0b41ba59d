"""The command line: `saga new`, `saga run`, `saga topics`, `saga list`, `saga show`, `saga why`, `saga questions`, `saga replay`,
`saga publish`; from other files `saga check`, `saga journal export`, `saga deadletters`, `saga participant check`, the drawings
`saga graph` and `saga map`, and what operators do (`cli_operate`).

Data goes to stdout, messages to stderr; -o json gives one array, -o jsonl a line for each of its values.
Exit codes: 0 ok, 1 failed, 2 usage or settings, 3 found problems.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from saga.app import App
from saga.cli_check import check_command, journal_cli
from saga.cli_deadletters import deadletters_command
from saga.cli_operate import operate_cli
from saga.cli_participant import participant_cli
from saga.cli_parts import AppOption, FormatOption, messages, named_app, run_to_end, settings
from saga.cli_pictures import graph, map_
from saga.cli_tool import KeyArgument, OlderOption, ReasonOption, SagaOption, StepOption, book_at_hand, json_value, with_tool
from saga.config import Config
from saga.connect import opened, remark, safety
from saga.errors import Misconfigured, SagaError
from saga.log.base import TopicPartition
from saga.logs import set_up
from saga.new import create
from saga.ops.awaited import Awaited
from saga.ops.listing import Filter, Shown
from saga.ops.output import FAILED, OK, PROBLEMS, USAGE, Format, Output
from saga.ops.refold import Until
from saga.ops.replay import Asked, parse_until
from saga.ops.replay import replay as replay_journal
from saga.ops.words import parse_duration
from saga.orchestrate import orchestrate
from saga.topics import problems, specs

_HELP = """A saga coordinator for Kafka.

Kafka is at SAGA_BOOTSTRAP (127.0.0.1:9092); SAGA_LOG=file:PATH is a folder in its place. All settings: saga/config.py.
"""
# No boxes around a traceback: at 80 columns they are pages of the command line's own inside.
cli = typer.Typer(no_args_is_help=True, add_completion=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=_HELP)
topics_cli = typer.Typer(no_args_is_help=True, help="Create and verify the topics an app needs.")
cli.add_typer(topics_cli, name="topics")
cli.add_typer(participant_cli, name="participant")
cli.add_typer(journal_cli, name="journal")
cli.command()(graph)
cli.command("map")(map_)
cli.add_typer(operate_cli)
logger = logging.getLogger("saga")


def main() -> None:
    """The entry point: errors of ours end in one clear message, not in a traceback."""
    try:
        cli()
    except Misconfigured as error:
        messages.print(f"saga: {error}", markup=False)
        sys.exit(USAGE)
    except SagaError as error:
        messages.print(f"saga: {error}", markup=False)
        sys.exit(FAILED)


def _version(asked: bool) -> None:
    if asked:
        print(f"saga-kafka {version('saga-kafka')}")
        raise typer.Exit


@cli.callback()
def saga(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="say which version this is, and go")
    ] = False,
) -> None:
    pass


@cli.command()
def run(
    app: AppOption = None,
    accept_loss: Annotated[list[str], typer.Option(help="topic:partition whose lost inputs an operator accepts")] = [],  # noqa: B006
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log more: as SAGA_LOGS_LEVEL=debug")] = False,
) -> None:
    """Run one orchestrator until SIGTERM or Ctrl-C; more of them share the partitions."""
    accepted, config = [_partition(name) for name in accept_loss], Config.read()
    set_up(config.logs, "debug" if verbose else config.logs_level)
    for line in config.remarks:
        logger.warning(line)
    run_to_end(orchestrate(named_app(app), config, accepted))


@cli.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="of the folder and its package: lower-case letters, digits, _", show_default=False)
    ],
    folder: Annotated[Path, typer.Option("--in", help="where to put it")] = Path(),
) -> None:
    """Write a small project that works: a saga, its services, passing tests.

    Nothing is overwritten: exit code 2 if the folder is there already, or the name cannot be one.
    """
    for file in create(name, folder):
        print(file)
    messages.print(f"Now: cd {folder / name}, then pytest. What comes next stands in its README.md.", markup=False)


# --- looking ------------------------------------------------------------------------------------------------------------------------


@cli.command("list")
def list_(
    saga: SagaOption = None,
    state: Annotated[Shown, typer.Option("--state", help="live: those without an outcome")] = Shown.LIVE,
    step: StepOption = None,
    reason: ReasonOption = None,
    older: OlderOption = "0s",
    waits: Annotated[Awaited | None, typer.Option("--waits", help="only those where some step waits for this")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="at most so many, the oldest first; 0 for all")] = 50,
    app: AppOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List instances, the oldest first.

    Says their states, what they wait for, and how many there are of each. Exit code 0, also if there are none.

    Without the app's definitions an answer or a time that is waited for counts as an event, and a child as a reply.
    """
    wanted = Filter(saga, state, step, reason, parse_duration(older), waits)
    with_tool(output, book_at_hand(app), lambda tool: tool.list(wanted, limit))


@cli.command()
def show(key: KeyArgument, saga: SagaOption = None, app: AppOption = None, output: FormatOption = Format.TABLE) -> None:
    """Tell the story of one instance.

    Every decision in order, and what it waits for now. Exit code 1 if the key is not known.

    -o json gives all that the journal holds of it; -o jsonl a line for each decision.
    """
    with_tool(output, book_at_hand(app), lambda tool: tool.show(key, saga))


@cli.command()
def why(key: KeyArgument, saga: SagaOption = None, app: AppOption = None, output: FormatOption = Format.TABLE) -> None:
    """Say what an instance waits for.

    One sentence: for what, since when, and what happens next.

    Exit code 0 if it goes on by itself or has ended, 3 if it is parked, 1 if the key is not known.
    """
    with_tool(output, book_at_hand(app), lambda tool: tool.why(key, saga))


@cli.command()
def questions(
    role: Annotated[str | None, typer.Option("--role", help="only what this role may answer")] = None,
    saga: SagaOption = None,
    app: AppOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the questions that wait for a person.

    Says who may answer each, with what, and until when; those with the least time left first. Whom a step asks stands in its
    definition, so this needs the app. Exit code 0, also if there are none.
    """
    with_tool(output, named_app(app).book, lambda tool: tool.questions(role, saga))


@cli.command()
def replay(
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="only this partition of the journal")] = None,
    until: Annotated[str, typer.Option("--until", help="a time (ISO 8601), a decision (instance#seq), or an offset")] = "",
    output: FormatOption = Format.TABLE,
) -> None:
    """Fold the journal again from its start, and compare.

    Each snapshot, and what an owner would restore, must be the same byte for byte. Nothing is sent, and no code of a saga is run.

    --until stops after the batch that holds what it names. Exit code 0 if all is the same, 3 if anything differs (it says where),
    1 if what --until names is not there.
    """
    asked = Asked(partition, parse_until(until) if until else Until())
    with_tool(output, None, lambda tool: replay_journal(tool.log, asked, tool.output, tool.messages))


cli.command("check")(check_command)
cli.command("deadletters")(deadletters_command)

# --- saying ------------------------------------------------------------------------------------------------------------------------


@cli.command()
def publish(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="of the event, e.g. order.placed.v1", show_default=False)],
    data: Annotated[str, typer.Argument(metavar="DATA", help="its data, as JSON", show_default=False)],
    app: AppOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Publish an event that starts a saga, in place of the service that it belongs to.

    Exit code 1 if the data is not valid for a saga that starts on it, 2 if none does. The same data again changes nothing.
    """
    value = json_value(data, "the data")
    with_tool(output, named_app(app).book, lambda tool: tool.publish(type, value))


# --- topics -------------------------------------------------------------------------------------------------------------------------


@topics_cli.command("apply")
def topics_apply(app: AppOption = None, output: FormatOption = Format.TABLE) -> None:
    """Create the topics that are missing; those that exist are left as they are, and checked."""
    run_to_end(_topics(named_app(app), settings(), Output(output), create=True))


@topics_cli.command("check")
def topics_check(app: AppOption = None, output: FormatOption = Format.TABLE) -> None:
    """Say what is wrong with the topics that are there; exit with 3 if anything is."""
    run_to_end(_topics(named_app(app), settings(), Output(output), create=False))


async def _topics(app: App, config: Config, output: Output, *, create: bool) -> int:
    if said := remark(config):
        messages.print(said, markup=False)
    replication, min_insync = safety(config)
    wanted = specs(app, replication=replication, min_insync=min_insync)
    async with opened(config, "saga-cli", make=create) as log:
        before = await log.describe([spec.name for spec in wanted])
        missing = [spec for spec in wanted if spec.name not in before]
        if create and missing:
            await log.create(missing)
        there = await log.describe([spec.name for spec in wanted])
    rows = []
    for spec in wanted:
        done = "created" if spec.name not in before and spec.name in there else "exists" if spec.name in there else "missing"
        actual = there.get(spec.name, spec)
        rows.append({"topic": spec.name, "partitions": actual.partitions, "state": done, "problems": problems([spec], there)})
    output.rows(("TOPIC", "PARTITIONS", "STATE"), ("topic", "partitions", "state"), rows)
    found = [problem for row in rows for problem in row["problems"]]  # type: ignore[attr-defined]
    for problem in found:
        messages.print(problem, markup=False)
    return PROBLEMS if found else OK


def _partition(name: str) -> TopicPartition:
    topic, _, number = name.rpartition(":")
    if not topic or not number.isdecimal():
        raise Misconfigured(f"--accept-loss takes topic:partition, not {name!r}")
    return TopicPartition(topic, int(number))


if __name__ == "__main__":
    main()
