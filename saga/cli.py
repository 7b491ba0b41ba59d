"""The command line: `saga new`, `saga run`, `saga topics`, `saga list`, `saga show`, `saga why`, `saga replay`, `saga check`,
`saga journal export`, `saga retry`, `saga publish`, `saga participant check`; and the drawings: `saga graph`, `saga map`.

Data goes to stdout, messages to stderr; -o json gives one array, -o jsonl a line for each of its values.
Exit codes: 0 ok, 1 failed, 2 usage or settings, 3 found problems.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from saga.app import App
from saga.cli_check import check_command, journal_cli
from saga.cli_participant import participant_cli
from saga.cli_parts import AppOption, FormatOption, messages, named_app, run_to_end, settings
from saga.cli_pictures import graph, map_
from saga.config import Config
from saga.connect import open_log, remark, safety
from saga.errors import Misconfigured, SagaError
from saga.log.base import TopicPartition
from saga.logs import set_up
from saga.new import create
from saga.ops.commands import Chosen, Tool, login_name
from saga.ops.listing import Filter, Shown
from saga.ops.operate import DEFAULT_PATIENCE, DEFAULT_RATE, Act
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
cli = typer.Typer(no_args_is_help=True, add_completion=True, rich_markup_mode=None, help=_HELP)
topics_cli = typer.Typer(no_args_is_help=True, help="Create and verify the topics an app needs.")
cli.add_typer(topics_cli, name="topics")
cli.add_typer(participant_cli, name="participant")
cli.add_typer(journal_cli, name="journal")
cli.command()(graph)
cli.command("map")(map_)
logger = logging.getLogger("saga")

SagaOption = Annotated[str | None, typer.Option("--saga", help="only this saga")]
KeyArgument = Annotated[str, typer.Argument(help="the business id, e.g. the order id", show_default=False)]
StepOption = Annotated[str | None, typer.Option("--step", help="only those that wait, or are parked, at this step")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="only those parked for this reason, e.g. user-code")]


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


@cli.command()
def run(
    app: AppOption = None,
    accept_loss: Annotated[list[str], typer.Option(help="topic:partition whose lost inputs an operator accepts")] = [],  # noqa: B006
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log more: as SAGA_LOGS_LEVEL=debug")] = False,
) -> None:
    """Run one orchestrator until SIGTERM or Ctrl-C; more of them share the partitions."""
    accepted, config = [_partition(name) for name in accept_loss], Config.read()
    set_up(config.logs, "debug" if verbose else config.logs_level)
    for line in config.unknown:
        logger.warning(line)
    run_to_end(orchestrate(named_app(app), config, accepted))


@cli.command()
def new(
    name: Annotated[str, typer.Argument(help="of the folder and its package: lower-case letters, digits, _", show_default=False)],
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
    older: Annotated[str, typer.Option("--older", help="only those that began at least so long ago: 90s, 10m, 2h, 1d")] = "0s",
    limit: Annotated[int, typer.Option("--limit", min=0, help="at most so many, the oldest first; 0 for all")] = 50,
    output: FormatOption = Format.TABLE,
) -> None:
    """List instances, the oldest first.

    Says their states, what they wait for, and how many there are of each. Exit code 0, also if there are none.
    """
    wanted = Filter(saga, state, step, reason, parse_duration(older))
    run_to_end(_with_tool(output, {}, lambda tool: tool.list(wanted, limit)))


@cli.command()
def show(key: KeyArgument, saga: SagaOption = None, app: AppOption = None, output: FormatOption = Format.TABLE) -> None:
    """Tell the story of one instance.

    Every decision in order, and what it waits for now. Exit code 1 if the key is not known.

    -o json gives all that the journal holds of it; -o jsonl a line for each decision.
    """
    run_to_end(_with_tool(output, _sagas(app), lambda tool: tool.show(key, saga)))


@cli.command()
def why(key: KeyArgument, saga: SagaOption = None, app: AppOption = None, output: FormatOption = Format.TABLE) -> None:
    """Say what an instance waits for.

    One sentence: for what, since when, and what happens next.

    Exit code 0 if it goes on by itself or has ended, 3 if it is parked, 1 if the key is not known.
    """
    run_to_end(_with_tool(output, _sagas(app), lambda tool: tool.why(key, saga)))


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
    run_to_end(_with_tool(output, {}, lambda tool: replay_journal(tool.log, asked, tool.output, tool.messages)))


cli.command("check")(check_command)

# --- operating ----------------------------------------------------------------------------------------------------------------------


@cli.command()
def retry(
    key: Annotated[str | None, typer.Argument(help="one instance; without it all parked ones that the options name")] = None,
    saga: SagaOption = None,
    step: StepOption = None,
    reason: ReasonOption = None,
    why: Annotated[str, typer.Option("--why", help="why you do it; it stands in the journal (needed to do anything)")] = "",
    who: Annotated[str, typer.Option("--who", help="who does it; else the login name")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="do it; without it many are only shown")] = False,
    rate: Annotated[float, typer.Option("--rate", min=0.01, help="at most so many a second")] = DEFAULT_RATE,
    wait: Annotated[float, typer.Option("--wait", min=0, help="how many seconds to wait for what comes of it")] = DEFAULT_PATIENCE,
    output: FormatOption = Format.TABLE,
) -> None:
    """Let parked instances go on.

    The action goes into the journal with who and why.

    With KEY it is done at once. With --saga, --step or --reason the parked ones that fit are shown, and retried with --yes.
    Exit code 0 if all go on, 3 if one parked again or was refused, 1 if one is not known or nobody decided it in time.
    """
    if key is None and saga is None and step is None and reason is None:
        raise Misconfigured("say which: a KEY, or --saga, --step, --reason")
    if (key is not None or yes) and not why.strip():
        raise Misconfigured('say why: --why "gateway is back"; it stands in the journal')
    chosen = Chosen(key, Filter(saga, Shown.PARKED, step, reason), yes)
    act = Act(who or login_name(), why.strip(), rate, wait)
    run_to_end(_with_tool(output, {}, lambda tool: tool.retry(chosen, act)))


@cli.command()
def publish(
    type: Annotated[str, typer.Argument(help="of the event, e.g. order.placed.v1", show_default=False)],
    data: Annotated[str, typer.Argument(help="its data, as JSON", show_default=False)],
    app: AppOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Publish an event that starts a saga, in place of the service that it belongs to.

    Exit code 1 if the data is not valid for a saga that starts on it, 2 if none does. The same data again changes nothing.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Misconfigured(f"the data is not JSON: {error}") from None
    run_to_end(_with_tool(output, dict(named_app(app).book.sagas), lambda tool: tool.publish(type, value)))


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
    log = open_log(config, "saga-cli", make=create)
    await log.open()
    try:
        before = await log.describe([spec.name for spec in wanted])
        missing = [spec for spec in wanted if spec.name not in before]
        if create and missing:
            await log.create(missing)
        there = await log.describe([spec.name for spec in wanted])
    finally:
        await log.close()
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


# --- what the commands share --------------------------------------------------------------------------------------------------------


async def _with_tool(format: Format, sagas: dict[str, Any], command: Any) -> int:
    """Give a command an open log, and the definitions that it can say more with."""
    log = open_log(settings(), "saga-cli", make=False)
    await log.open()
    try:
        code: int = await command(Tool(log, Output(format), messages, sagas))
        return code
    finally:
        await log.close()


def _sagas(app: str | None) -> dict[str, Any]:
    try:
        return dict(named_app(app).book.sagas)
    except Exception:  # whatever the user's modules raise: the journal can be read without them, it is only told in less detail
        if app is not None:
            raise
        return {}


def _partition(name: str) -> TopicPartition:
    topic, _, number = name.rpartition(":")
    if not topic or not number.isdecimal():
        raise Misconfigured(f"--accept-loss takes topic:partition, not {name!r}")
    return TopicPartition(topic, int(number))


if __name__ == "__main__":
    main()
