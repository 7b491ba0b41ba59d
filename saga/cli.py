"""The command line: `saga run`, `saga topics`, `saga list`, `saga show`, `saga why`, `saga retry`.

Data goes to stdout, messages to stderr. Exit codes: 0 ok, 1 failed, 2 usage or settings, 3 found problems.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from saga.app import App, find_app
from saga.config import Config
from saga.errors import Misconfigured, SagaError
from saga.log.base import TopicPartition
from saga.orchestrate import open_log, orchestrate, safety
from saga.topics import problems, specs

OK, FAILED, USAGE, PROBLEMS = 0, 1, 2, 3

cli = typer.Typer(no_args_is_help=True, add_completion=True, rich_markup_mode=None, help="A saga coordinator for Kafka.")
topics_cli = typer.Typer(no_args_is_help=True, help="Create and verify the topics an app needs.")
cli.add_typer(topics_cli, name="topics")
messages = Console(stderr=True, highlight=False, soft_wrap=True)

AppOption = Annotated[str | None, typer.Option("--app", help="module:attribute of the App; else [tool.saga] app in pyproject.toml")]


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
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="say more on stderr")] = False,
) -> None:
    """Run one orchestrator until SIGTERM or Ctrl-C; more of them share the partitions."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    accepted = [_partition(name) for name in accept_loss]
    found = _app(app)
    _run(orchestrate(found, Config.read(), accepted, lambda text: messages.print(text, markup=False)))


@topics_cli.command("apply")
def topics_apply(app: AppOption = None) -> None:
    """Create the topics that are missing; those that exist are left as they are, and checked."""
    _run(_topics(_app(app), Config.read(), create=True))


@topics_cli.command("check")
def topics_check(app: AppOption = None) -> None:
    """Say what is wrong with the topics that are there; exit with 3 if anything is."""
    _run(_topics(_app(app), Config.read(), create=False))


async def _topics(app: App, config: Config, *, create: bool) -> None:
    replication, min_insync = safety(config)
    wanted = specs(app, replication=replication, min_insync=min_insync)
    log = open_log(config, "saga-cli")
    await log.open()
    try:
        before = await log.describe([spec.name for spec in wanted])
        missing = [spec for spec in wanted if spec.name not in before]
        if create and missing:
            await log.create(missing)
        there = await log.describe([spec.name for spec in wanted])
    finally:
        await log.close()
    for spec in wanted:
        done = "created" if spec.name not in before and spec.name in there else "exists" if spec.name in there else "missing"
        print(f"{spec.name:<28} {spec.partitions:>4} partitions  {done}")
    if found := problems(wanted, there):
        for problem in found:
            messages.print(problem, markup=False)
        raise typer.Exit(PROBLEMS)


def _app(name: str | None) -> App:
    return find_app(name, Path.cwd())


def _partition(name: str) -> TopicPartition:
    topic, _, number = name.rpartition(":")
    if not topic or not number.isdecimal():
        raise Misconfigured(f"--accept-loss takes topic:partition, not {name!r}")
    return TopicPartition(topic, int(number))


def _run(what: Coroutine[Any, Any, None]) -> None:
    asyncio.run(what)


if __name__ == "__main__":
    main()
